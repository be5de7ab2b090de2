"""The analytic FLOPs and parameter counts against torch's own counter and the paper's sizes."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adatape.config import ModelConfig, TapeConfig
from adatape.configs import PRESETS
from adatape.flops import stage_flops
from adatape.model import AdaTape

TAPE = TapeConfig(capacity=6, halting_threshold=2.0, layers=(1,), bank_patch=4, key_split=2)
IMAGE = ModelConfig("image", 5, 24, 3, 2, 40, image_size=32, patch=8, tape=TAPE)


def with_tape(**changes: object) -> ModelConfig:
    return replace(IMAGE, tape=replace(TAPE, **changes))


MODELS = {
    "linear bank": IMAGE,
    "conv stem": with_tape(bank_stem=((8, 1), (12, 2), (20, 2))),
    "learnable bank": with_tape(bank="learn", bank_size=50),
    "tape FFN": with_tape(tape_ffn_dim=13),
    "tape MLP": with_tape(tape_mlp_dim=17),
    "class token": replace(IMAGE, has_class_token=True, pooling="token"),
    "first block": with_tape(layers=(0,)),
    "fixed length": with_tape(halting_threshold=None, tape_mlp_dim=17),
    "parity": replace(IMAGE, input="parity", seq_len=20, num_classes=2, tape=replace(TAPE, tape_ffn_dim=13)),
}
WHOLE_ONLY = {
    "two layers": with_tape(layers=(0, 2), tape_ffn_dim=13),
    "two layers, fixed": with_tape(layers=(1, 2), halting_threshold=None),
    "plain": replace(IMAGE, tape=None),
}


def counted(function: object, *args: object) -> tuple[int, object]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = function(*args)
    return counter.get_total_flops(), result


def sample(config: ModelConfig) -> torch.Tensor:
    shape = (config.image_size, config.image_size, 3) if config.input == "image" else (config.seq_len, 3)
    return torch.randn(1, *shape)


def on_meta(config: ModelConfig) -> AdaTape:
    with torch.device("meta"):
        return AdaTape(config).eval()


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
def test_each_stage_agrees_with_torch(config: ModelConfig) -> None:
    model, flops, inputs = AdaTape(config).eval().requires_grad_(False), stage_flops(config), sample(config)
    embed, hidden = counted(model.embed, inputs)
    assert embed == flops.embed
    bank, entries = counted(model.bank, model._layout(inputs)) if model.bank else (0, None)
    for length in range(1, config.capacity + 1):
        step, _ = counted(model.read, hidden, None, entries, 0, length)
        assert bank + step == flops.bank + length * flops.read_step
    for length in range(config.capacity + 1):
        tape, lengths = torch.empty(1, length, config.dim), torch.tensor([length])
        trunk, _ = counted(model.trunk, hidden, tape, lengths)
        assert trunk == flops.trunk[length]


@pytest.mark.parametrize("config", (MODELS | WHOLE_ONLY).values(), ids=MODELS | WHOLE_ONLY)
def test_the_whole_agrees_with_torch(config: ModelConfig) -> None:
    model, flops = AdaTape(config).eval().requires_grad_(False), stage_flops(config)
    for length in range(config.capacity + 1):
        whole, _ = counted(model, sample(config), length)
        assert whole == flops.total(length, length)


def test_a_cap_of_zero_spares_the_bank() -> None:
    flops = stage_flops(IMAGE)
    assert flops.total(0, 0) == flops.embed + flops.trunk[0]
    assert flops.total(0, 3) == flops.total(0) == flops.total(0, 0) + flops.bank


@pytest.mark.parametrize(
    ("name", "full", "packed", "plain"),
    [("ti", 1.375, 1.332, 1.247), ("s", 4.994, 4.846, 4.574), ("b", 18.967, 18.416, 17.472)],
)
def test_published_multiply_adds(name: str, full: float, packed: float, plain: float) -> None:
    config = PRESETS[name].model
    flops = stage_flops(config)
    giga = [
        count / 2e9 for count in (flops.total(10), flops.total(4), stage_flops(replace(config, tape=None)).total(0))
    ]
    assert giga == pytest.approx([full, packed, plain], abs=5.1e-4)


def test_the_fine_bank_of_the_smallest_size_costs_58_million_multiply_adds() -> None:
    assert stage_flops(PRESETS["ti"].model).bank / 2e6 == pytest.approx(57.8, abs=0.05)


def variant(name: str, **changes: object) -> ModelConfig:
    config = PRESETS[name].model
    return replace(config, tape=replace(config.tape, **changes))


def num_parameters(config: ModelConfig) -> int:
    return sum(parameter.numel() for parameter in on_meta(config).parameters())


SIZES = ("ti", "s", "b", "l")
COUNTS = {
    "default": ({}, (6_386_152, 24_346_600, 94_993_384, 318_968_808)),
    "learnable": ({"bank": "learn", "bank_size": 10000}, (8_081_512, 27_663_592, 101_332_456)),
    "no tape MLP": ({"tape_mlp_dim": 0}, (5_942_056, 22_573_672, 87_908_584)),
}


@pytest.mark.parametrize(
    ("name", "changes", "count"),
    [(name, changes, count) for changes, counts in COUNTS.values() for name, count in zip(SIZES, counts, strict=False)],
)
def test_parameter_counts(name: str, changes: dict[str, object], count: int) -> None:
    assert num_parameters(variant(name, **changes)) == count


@pytest.mark.parametrize(("name", "count"), [("ti", 10_827_112), ("s", 42_075_880), ("b", 165_841_384)])
def test_parameter_counts_with_a_network_of_the_tapes_own(name: str, count: int) -> None:
    mlp_dim = PRESETS[name].model.mlp_dim
    assert num_parameters(variant(name, tape_mlp_dim=0, tape_ffn_dim=mlp_dim)) == count


@pytest.mark.parametrize(("name", "count"), [("ti", 669_120), ("s", 2_296_704), ("b", 8_427_264), ("l", 14_644_224)])
def test_parameters_of_the_tape(name: str, count: int) -> None:
    config = PRESETS[name].model
    assert num_parameters(config) - num_parameters(replace(config, tape=None)) == count


def test_a_class_token_adds_itself_and_its_position() -> None:
    config = PRESETS["ti"].model
    assert num_parameters(replace(config, has_class_token=True)) == num_parameters(config) + 2 * config.dim
