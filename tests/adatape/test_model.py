"""Laws of the whole model: an answer depends on its input and its cap, on nothing else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from adatape.config import ModelConfig
from adatape.model import AdaTape
from adatape.transformer import Output
from tests.adatape.models import IMAGE, configs, make_inputs, make_model, two_layers, with_tape

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
seeds = st.integers(0, 1000)
few = settings(max_examples=40)


def row(output: Output, index: int) -> list[Tensor]:
    """Return everything that one sample got; picks are compared through the tokens they make."""
    reads = [part[index] for read in output.reads for part in (read.tape_BND, read.length_B, read.weights_BNK)]
    masks = [] if output.mask_BL is None else [output.mask_BL[index]]
    return [output.logits_BC[index], output.ponder_B[index], *masks, *reads]


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert_close(left, right, **CLOSE)


@few
@given(configs | two_layers, seeds)
@torch.no_grad()
def test_batch_invariance(config: ModelConfig, seed: int) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 4, seed)
    stacked = model(inputs)
    for index in range(4):
        assert_same(row(stacked, index), row(model(inputs[index : index + 1]), 0))


@few
@given(configs | two_layers, seeds, st.permutations(range(4)))
@torch.no_grad()
def test_row_order_equivariance(config: ModelConfig, seed: int, order: list[int]) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 4, seed)
    in_order, shuffled = model(inputs), model(inputs[order])
    for position, index in enumerate(order):
        assert_same(row(shuffled, position), row(in_order, index))


@few
@given(configs, seeds, st.sampled_from([0.0, 1e-3, 1e3]))
@torch.no_grad()
def test_a_padding_companion_changes_nothing(config: ModelConfig, seed: int, scale: float) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 1, seed)
    companions = scale * make_inputs(config, 3, seed + 1)
    assert_same(row(model(torch.cat([companions, inputs])), 3), row(model(inputs), 0))


@few
@given(configs, seeds)
@torch.no_grad()
def test_bucket_invariance(config: ModelConfig, seed: int) -> None:
    """Any trunk that holds the tape gives the same answer."""
    model, inputs = make_model(config, seed), make_inputs(config, 3, seed)
    whole = model(inputs)
    hidden, tape, length = whole_reading(model, inputs)
    for bucket in range(int(length.max()), config.capacity + 1):
        assert_close(model.trunk(hidden, tape[:, :bucket], length), whole.logits_BC, **CLOSE)


@few
@given(configs, seeds, st.sampled_from([1.0, 1e3]))
@torch.no_grad()
def test_empty_slots_are_never_keys_nor_pooled(config: ModelConfig, seed: int, scale: float) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 3, seed)
    hidden, tape, length = whole_reading(model, inputs)
    length = length.clamp(max=torch.tensor([0, 2, 5]))
    is_empty = torch.arange(config.capacity) >= length[:, None]
    garbage = torch.where(is_empty[..., None], scale * torch.randn_like(tape), tape)
    assert_close(model.trunk(hidden, garbage, length), model.trunk(hidden, tape, length), **CLOSE)


def whole_reading(model: AdaTape, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    hidden = model.embed(inputs)
    read = model.read(hidden, None, model.build_bank(inputs), 0, None)
    return hidden, read.tape_BND, read.length_B


@few
@given(configs | two_layers, seeds, st.lists(st.integers(0, 7), min_size=4, max_size=4))
@torch.no_grad()
def test_one_cap_a_sample_is_each_with_its_own(config: ModelConfig, seed: int, caps: list[int]) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 4, seed)
    together = model(inputs, torch.tensor(caps))
    for index, cap in enumerate(caps):
        assert_close(together.logits_BC[index], model(inputs[index : index + 1], cap).logits_BC[0], **CLOSE)


@few
@given(configs, seeds, st.integers(0, 6))
@torch.no_grad()
def test_budget_monotonicity(config: ModelConfig, seed: int, cap: int) -> None:
    """A larger cap never gives a shorter tape, and a capped tape is a prefix of the whole one."""
    model, inputs = make_model(config, seed), make_inputs(config, 3, seed)
    whole, capped = model(inputs).reads[0], model(inputs, torch.full((3,), cap)).reads[0]
    assert capped.length_B.tolist() == whole.length_B.clamp(max=cap).tolist()
    assert capped.wanted_B.tolist() == whole.wanted_B.tolist() == whole.length_B.tolist()
    is_kept = torch.arange(config.capacity) < capped.length_B[:, None]
    assert_close(capped.tape_BND, whole.tape_BND * is_kept[..., None], **CLOSE)
    assert_close(capped.raw_BND, whole.raw_BND * is_kept[..., None], **CLOSE)


@torch.no_grad()
def test_an_int_cap_runs_that_many_steps() -> None:
    model, inputs = make_model(IMAGE), make_inputs(IMAGE, 3)
    for cap in (1, 3, 6, 9):
        read = model(inputs, cap).reads[0]
        assert read.picks_BNK.shape[1] == min(cap, 6)
        assert int(read.wanted_B.max()) <= cap


@few
@given(configs, seeds)
@torch.no_grad()
def test_a_cap_of_zero_reads_nothing(config: ModelConfig, seed: int) -> None:
    model, inputs = make_model(config, seed), make_inputs(config, 2, seed)
    output = model(inputs, 0)
    hidden = model.embed(inputs)
    assert output.reads == ()
    assert output.ponder_B.tolist() == [0.0, 0.0]
    assert_close(output.logits_BC, model.trunk(hidden, hidden[:, :0], torch.zeros(2, dtype=torch.long)), **CLOSE)


@torch.no_grad()
def test_tape_lengths_differ_between_inputs() -> None:
    assert len(set(make_model(IMAGE)(make_inputs(IMAGE, 32)).reads[0].length_B.tolist())) > 1


def compat(config: ModelConfig, **changes: object) -> tuple[Output, Output]:
    """Return the answers of the same parameters without and with compat."""
    outputs = []
    for is_compat in (False, True):
        data = with_tape(config, **changes).to_dict() | {"compat": is_compat}
        model = make_model(ModelConfig.from_dict(data))
        with torch.no_grad():
            outputs.append(model(make_inputs(config, 8)))
    return outputs[0], outputs[1]


def test_compat_pools_empty_slots() -> None:
    clean, official = compat(IMAGE)
    is_full = clean.reads[0].length_B == 6
    assert not is_full.all()
    assert_close(clean.logits_BC[is_full], official.logits_BC[is_full], **CLOSE)
    assert ((clean.logits_BC - official.logits_BC).abs().amax(1) > 1e-3)[~is_full].all()


def test_compat_digests_empty_slots() -> None:
    clean, official = compat(IMAGE, tape_mlp_dim=5)
    is_empty = torch.arange(6) >= clean.reads[0].length_B[:, None]
    assert clean.reads[0].tape_BND[is_empty].abs().max() == 0
    assert official.reads[0].tape_BND[is_empty].abs().min(dim=1).values.max() > 0
    assert clean.reads[0].raw_BND[is_empty].abs().max() == official.reads[0].raw_BND[is_empty].abs().max() == 0


def test_compat_counts_the_last_ponder_loss_only() -> None:
    clean, official = compat(IMAGE, layers=(0, 2), query="token")
    assert_close(clean.ponder_B, sum(read.ponder_B for read in clean.reads))
    assert_close(official.ponder_B, official.reads[-1].ponder_B)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_stochastic_depth_grows_linearly(rate: float) -> None:
    model = AdaTape(ModelConfig("deep", 2, 4, 5, 1, 4, image_size=8, patch=4, stochastic_depth=rate))
    assert [block.drop_path for block in model.blocks] == pytest.approx([rate * index / 4 for index in range(5)])


def test_training_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    block = AdaTape(ModelConfig("deep", 2, 4, 2, 1, 4, image_size=8, patch=4, stochastic_depth=0.5)).blocks[1].train()
    branches = block._kept(torch.ones(2000, 3, 4))
    assert set(branches.unique().tolist()) == {0.0, 2.0}
    assert (branches.flatten(1).std(dim=1) == 0).all()
    assert float(branches.mean()) == pytest.approx(1, abs=0.1)


def test_the_plain_transformer_has_no_tape() -> None:
    config = ModelConfig.from_dict(IMAGE.to_dict() | {"tape": None})
    with torch.no_grad():
        output = make_model(config)(make_inputs(config, 2))
    assert (output.reads, output.mask_BL, config.capacity) == ((), None, 0)
