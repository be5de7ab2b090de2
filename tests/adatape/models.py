"""Small models of every kind for the laws; their parameters are random, so nothing is zero by accident."""

from dataclasses import replace

import torch
from hypothesis import strategies as st

from adatape.config import ModelConfig, TapeConfig
from adatape.model import AdaTape

TAPE = TapeConfig(capacity=6, halting_threshold=2.0, layers=(1,), bank_patch=4, key_split=2)
IMAGE = ModelConfig("image", 3, 8, 3, 2, 12, image_size=24, patch=8, tape=TAPE)
PARITY = replace(IMAGE, input="parity", seq_len=24)
STEM = ((4, 1), (6, 2), (8, 2))


def with_tape(config: ModelConfig = IMAGE, **changes: object) -> ModelConfig:
    return replace(config, tape=replace(config.tape, **changes))


def make_model(config: ModelConfig, seed: int = 0) -> AdaTape:
    """Return a model in evaluation mode whose tape lengths differ between inputs."""
    generator = torch.Generator().manual_seed(seed)
    model = AdaTape(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            centre = 1.6 if name.startswith("readers") and centre else centre
            spread = 1.0 if name.endswith(("position", "entries", "class_token")) else spread
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    return model


def make_inputs(config: ModelConfig, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 1000)
    if config.input == "parity":
        symbols = torch.randint(3, (batch, config.seq_len), generator=generator)
        return torch.nn.functional.one_hot(symbols, 3).float()
    return torch.randn(batch, config.image_size, config.image_size, 3, generator=generator)


tapes = st.builds(
    replace,
    st.just(TAPE),
    bank_stem=st.sampled_from([(), STEM]),
    bank=st.sampled_from(["input", "learn"]),
    bank_size=st.just(30),
    layers=st.sampled_from([(0,), (1,), (2,)]),
    halting_threshold=st.sampled_from([1.0, 1.7, 2.0, 3.3, None]),
    complex_query=st.booleans(),
    query=st.sampled_from(["token", "gap"]),
    key_split=st.sampled_from([1, 2]),
    tape_mlp_dim=st.sampled_from([0, 5]),
    tape_ffn_dim=st.sampled_from([0, 6]),
    ponder=st.sampled_from(["entropy", "max"]),
)


def _model_config(tape: TapeConfig, pooling: str, is_parity: bool, has_class_token: bool) -> ModelConfig:
    if is_parity:
        tape = replace(tape, bank="input", bank_stem=())
    needed = tape.capacity * tape.reads_per_step
    base = replace(PARITY if is_parity else IMAGE, seq_len=max(needed, 24) if is_parity else 0, tape=None)
    tape = replace(tape, bank_size=max(needed, 30))
    return replace(base, pooling=pooling, has_class_token=has_class_token, tape=tape)


configs = st.builds(_model_config, tapes, st.sampled_from(["token", "gap", "gmp", "gsp"]), st.booleans(), st.booleans())
"""Every kind of model with one tape layer."""

two_layers = st.builds(
    lambda config, layers: with_tape(config, layers=layers), configs, st.sampled_from([(0, 1), (0, 2), (1, 2)])
)
"""The same with two."""
