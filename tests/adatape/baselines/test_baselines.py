"""The baselines: they halt as their papers say, their costs are true, and each learns a toy task."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adatape.baselines.act import ActConfig, ActTransformer
from adatape.baselines.avit import AVit, AvitConfig
from adatape.baselines.depth import DepthModel, DepthOutput
from adatape.baselines.pondernet import PonderConfig, PonderNet
from adatape.config import ModelConfig, TapeConfig
from adatape.configs import Preset, Recipe
from adatape.data import open_source
from adatape.trainer import Trainer, validate
from adatape.transformer import Transformer

PLAIN = ModelConfig("plain", 10, 24, 4, 2, 32, image_size=32, patch=8)
TOKEN = replace(PLAIN, has_class_token=True, pooling="token")
AVIT = AvitConfig(gate_center=2.0)
Build = Callable[[ModelConfig], Transformer]
MODELS: dict[str, tuple[ModelConfig, Build]] = {
    "uvit": (PLAIN, partial(ActTransformer, act=ActConfig(4, shares_block=False))),
    "u2t": (PLAIN, partial(ActTransformer, act=ActConfig(6, shares_block=True))),
    "pondernet": (PLAIN, partial(PonderNet, ponder=PonderConfig(4, shares_block=False))),
    "shared pondernet": (PLAIN, partial(PonderNet, ponder=PonderConfig(6, shares_block=True))),
    "a-vit": (TOKEN, partial(AVit, avit=AVIT)),
}
DEPTH_MODELS = ["uvit", "u2t", "pondernet", "shared pondernet"]


def make(name: str, seed: int = 0) -> Transformer:
    """Return a model whose samples halt at different depths."""
    torch.manual_seed(seed)
    config, build = MODELS[name]
    model = build(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    if isinstance(model, DepthModel):
        model.halting.weight.normal_(std=1.0)
    return model


def images(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 32, 32, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["uvit", "u2t", "a-vit"])
def test_weights_of_the_answer_sum_to_one(name: str, training: bool) -> None:
    output = make(name).train(training)(images(16))
    assert output.halting_BT.min() >= 0
    assert output.halting_BT.sum(1).numpy() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["uvit", "u2t"])
def test_act_halts_within_its_maximum(name: str) -> None:
    model = make(name)
    depth_B = model(images(64)).depth_B
    assert (depth_B >= 1).all()
    assert (depth_B <= model.max_steps).all()
    assert len(depth_B.unique()) > 1, "the test needs samples that halt apart"


@pytest.mark.parametrize(("bias", "depth"), [(-50.0, 6), (50.0, 1)])
def test_act_runs_from_one_step_to_the_last(bias: float, depth: int) -> None:
    model = make("u2t")
    model.halting.weight.zero_()
    model.halting.bias.fill_(bias)
    output = model(images(3))
    assert output.depth_B.tolist() == [depth] * 3
    assert output.ponder_B.numpy() == pytest.approx(depth + 1, abs=1e-4), "steps, and the remainder of the last"


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_does_not_depend_on_batch_mates(name: str) -> None:
    model, inputs = make(name), images(12)
    together = model(inputs)
    for index in range(12):
        alone = model(inputs[index : index + 1])
        assert torch.allclose(alone.logits_BC[0], together.logits_BC[index], atol=1e-4)
        assert alone.depth_B[0] == together.depth_B[index]
        assert alone.flops_B[0] == together.flops_B[index]


@pytest.mark.parametrize("name", ["pondernet", "shared pondernet"])
def test_pondernets_halting_distribution_sums_to_one(name: str) -> None:
    output = make(name).train()(images(16))
    assert output.halting_BT.min() >= 0
    assert output.halting_BT.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    assert (output.ponder_B >= 0).all(), "a divergence"


def test_pondernet_answers_at_the_median_of_its_distribution() -> None:
    model = make("pondernet")
    output = model(images(64))
    before_B = (
        output.halting_BT.cumsum(1) * (torch.arange(output.halting_BT.shape[1]) < output.depth_B[:, None] - 1)
    ).amax(1)
    assert (before_B < 0.5).all()
    assert len(output.depth_B.unique()) > 1, "the test needs samples that halt apart"


def test_a_prior_is_its_own_best_distribution() -> None:
    model = make("pondernet").train()
    model.halting.weight.zero_()
    model.halting.bias.fill_(torch.tensor(0.3).logit())
    assert model(images(2)).ponder_B.numpy() == pytest.approx(0, abs=1e-5)


def test_avit_drops_tokens_and_never_revives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("a-vit").train()
    masks = []
    for block in model.blocks:
        run = block.forward
        monkeypatch.setattr(block, "forward", lambda x, mask, run=run: (masks.append(mask), run(x, mask))[1])
    model(images(16))
    assert masks[0].all()
    assert not masks[-1].all()
    assert all((later <= earlier).all() for earlier, later in pairwise(masks))


def test_a_dropped_token_is_no_key_and_stays_as_it_was() -> None:
    model = make("a-vit")
    x_BSD, live_BS = torch.randn(2, 5, 24), torch.tensor([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]]).bool()
    changed = x_BSD.clone()
    changed[0, [2, 4]] += 1
    block = model.blocks[0]
    assert torch.allclose(block(x_BSD, live_BS)[live_BS], block(changed, live_BS)[live_BS], atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_flops_agree_with_torch(name: str) -> None:
    """For a batch of one, what is useful is what runs; heads and halting units that a break spares are a per mille."""
    model = make(name)
    for index in range(4):
        with FlopCounterMode(display=False) as counter:
            output: DepthOutput = model(images(1, seed=index))
        assert counter.get_total_flops() == pytest.approx(output.flops_B.item(), rel=0.002)


@pytest.mark.parametrize("name", MODELS)
def test_each_learns_digits(name: str) -> None:
    recipe = Recipe(epochs=10, batch_size=64, lr=4e-3, warmup_epochs=1)
    config, build = MODELS[name]
    trainer = Trainer(
        Preset(replace(config, patch=16), recipe), open_source("digits", image_size=32), build, seed=0, device="cpu"
    )
    while not trainer.is_done:
        trainer.step()
    assert validate(trainer.best_model(), trainer.data.validation, [0], "cpu")["accuracy_cap0"] > 0.6


@pytest.mark.parametrize("name", MODELS)
def test_a_tape_is_refused(name: str) -> None:
    config, build = MODELS[name]
    with pytest.raises(ValueError, match="expected"):
        build(replace(config, tape=TapeConfig(capacity=2, halting_threshold=1.0, bank_patch=8)))


def test_steps_and_blocks_must_agree() -> None:
    with pytest.raises(ValueError, match="expected the depth, 4"):
        ActTransformer(PLAIN, ActConfig(5, shares_block=False))
    with pytest.raises(ValueError, match="expected no tape and a class token"):
        AVit(PLAIN, AVIT)
