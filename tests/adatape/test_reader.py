"""Adaptive tape reading against the numpy oracle, its bounds, and where gradients flow."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adatape.config import TapeConfig
from adatape.reader import TapeRead, TapeReader, pick_top
from tests.adatape import oracle

DIM = 6
thresholds = st.sampled_from([0.6, 1.0, 1.3, 2.0, 2.5, 3.3])
sharpness = st.sampled_from([0.0, 0.5, 1.0, 1.8])


def make_reader(tape: TapeConfig, gain: float = 1.0) -> TapeReader:
    reader = TapeReader(tape, DIM).eval()
    torch.nn.init.constant_(reader.norm.weight, gain)
    return reader


def make_pair(num_entries: int, seed: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, DIM, generator=generator)
    return query, torch.randn(batch, num_entries, DIM, generator=generator)


def expected(reader: TapeReader, query: torch.Tensor, bank: torch.Tensor) -> dict[str, object]:
    tape, gain = reader.config, float(reader.norm.weight.detach()[0])
    query, bank = (oracle.layer_norm(part[0].double().numpy(), gain, 0.0) for part in (query, bank))
    options = {"complex_query": tape.complex_query, "ponder": tape.ponder}
    sizes = {"capacity": tape.capacity, "threshold": tape.halting_threshold, "key_dim": reader.key_dim}
    return oracle.read(query, bank, **options, **sizes)


@settings(max_examples=150)
@given(
    st.integers(0, 10**6),
    st.integers(4, 7),
    thresholds,
    sharpness,
    st.sampled_from(["entropy", "max"]),
    st.booleans(),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 30),
)
@torch.no_grad()
def test_reading_agrees_with_the_oracle(
    seed: int, capacity: int, threshold: float, gain: float, ponder: str, complex_query: bool, split: int, spare: int
) -> None:
    """Also where the bank is smaller than all reads: used entries are then taken again in index order."""
    tape = TapeConfig(capacity, threshold, complex_query=complex_query, ponder=ponder, key_split=split)
    reader = make_reader(tape, gain)
    query, bank = make_pair(tape.reads_per_step + spare, seed)
    wanted = expected(reader, query, bank)
    assume(wanted["margin"] > 1e-4)
    read = reader(query, bank)
    assert int(read.length_B) == int(read.wanted_B) == wanted["length"]
    np.testing.assert_array_equal(read.picks_BNK[0], wanted["picks"])
    np.testing.assert_allclose(read.tape_BND[0], wanted["tape"], atol=1e-4)
    assert float(read.ponder_B) == pytest.approx(wanted["ponder"], abs=1e-4)


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(4, 12), thresholds, sharpness)
@torch.no_grad()
def test_tape_length_is_between_the_threshold_and_the_capacity(
    seed: int, capacity: int, threshold: float, gain: float
) -> None:
    tape = TapeConfig(capacity, threshold)
    read = make_reader(tape, gain)(*make_pair(capacity * tape.reads_per_step, seed, batch=8))
    assert int(read.length_B.min()) >= math.ceil(threshold)
    assert int(read.length_B.max()) <= capacity
    is_slot = torch.arange(capacity) < read.length_B[:, None]
    assert (read.raw_BND.abs().amax(2) > 0).equal(is_slot) or gain == 0
    assert (read.picks_BNK >= 0).all(2).equal(is_slot)
    torch.testing.assert_close(read.weights_BNK.sum(2), is_slot.float())


@torch.no_grad()
def test_equal_entries_halt_exactly_at_the_capacity() -> None:
    """The slowest reading: each step adds 1/K, and K = N // threshold makes N steps enough."""
    read = make_reader(TapeConfig(10, 2.0))(torch.ones(1, DIM), torch.ones(1, 50, DIM))
    assert int(read.length_B) == 10
    assert read.picks_BNK[0].flatten().tolist() == list(range(50))


@pytest.mark.parametrize(("capacity", "threshold", "reads"), [(10, 2.0, 5), (10, 3.3, 3), (6, 6.0, 1), (6, 0.9, 6)])
def test_reads_per_step_is_an_integer(capacity: int, threshold: float, reads: int) -> None:
    got = TapeConfig(capacity, threshold).reads_per_step
    assert isinstance(got, int)
    assert got == reads


def test_used_entries_are_taken_again_in_index_order() -> None:
    scores = torch.tensor([[5.0, -3.0, 2.0, 9.0]])
    assert pick_top(scores, 4).tolist() == [[3, 0, 2, 1]]
    assert pick_top(scores - 1e9, 4).tolist() == [[0, 1, 2, 3]]


def test_ties_go_to_the_lowest_index() -> None:
    assert pick_top(torch.tensor([[1.0, 2.0, 2.0, 1.0, 2.0]]), 4).tolist() == [[1, 2, 4, 0]]
    assert pick_top(torch.zeros(3, 400), 10).tolist() == [list(range(10))] * 3


@torch.no_grad()
def test_weights_are_of_the_samples_own_scores() -> None:
    """The official code gathers every sample's scores from the first row of the batch."""
    reader, (query, bank) = make_reader(TapeConfig(6, 2.0)), make_pair(20, seed=3, batch=5)
    together = reader(query, bank)
    for index in range(5):
        alone = reader(query[index : index + 1], bank[index : index + 1])
        torch.testing.assert_close(together.weights_BNK[index], alone.weights_BNK[0])


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([1, 2, 3]))
@torch.no_grad()
def test_fixed_length_takes_the_best_entries_as_they_are(seed: int, capacity: int, split: int) -> None:
    reader = make_reader(TapeConfig(capacity, None, key_split=split))
    query, bank = make_pair(12, seed)
    normed = (oracle.layer_norm(part[0].double().numpy(), 1.0, 0.0) for part in (query, bank))
    wanted = oracle.read_fixed(*normed, capacity=capacity, key_dim=DIM // split)
    assume(wanted["margin"] > 1e-4)
    read = reader(query, bank)
    np.testing.assert_array_equal(read.picks_BNK[0, :, 0], wanted["picks"][0])
    np.testing.assert_allclose(read.tape_BND[0], wanted["tape"], atol=1e-5)
    assert (int(read.length_B), float(read.ponder_B)) == (capacity, 0.0)


def read_with_gradients(tape: TapeConfig) -> tuple[torch.Tensor, torch.Tensor, TapeRead, TapeReader]:
    query, bank = make_pair(30, seed=1, batch=2)
    reader = make_reader(tape)
    query.requires_grad_()
    bank.requires_grad_()
    return query, bank, reader(query, bank), reader


@pytest.mark.parametrize("complex_query", [True, False])
@pytest.mark.parametrize("ponder", ["entropy", "max"])
def test_gradients_flow_through_weights_values_and_ponder(complex_query: bool, ponder: str) -> None:
    tape = TapeConfig(6, 2.0, complex_query=complex_query, ponder=ponder)
    for pick_output in (lambda read: read.tape_BND.square().sum(), lambda read: read.ponder_B.sum()):
        query, bank, read, reader = read_with_gradients(tape)
        pick_output(read).backward()
        assert query.grad is not None
        assert float(query.grad.abs().amax(1).min()) > 1e-4
        assert float(bank.grad.abs().sum()) > 0
        assert float(reader.norm.weight.grad.abs().sum()) > 0


def test_no_gradient_flows_through_length_or_picks() -> None:
    _, _, read, _ = read_with_gradients(TapeConfig(6, 2.0))
    assert not any(part.requires_grad for part in (read.length_B, read.wanted_B, read.picks_BNK))


def test_only_picked_entries_get_a_gradient() -> None:
    _, bank, read, _ = read_with_gradients(TapeConfig(6, 2.0))
    read.tape_BND.sum(2).square().sum().backward()
    for picks_NK, grad_MD in zip(read.picks_BNK, bank.grad, strict=True):
        picked = set(picks_NK.flatten().tolist()) - {-1}
        assert set(grad_MD.abs().sum(1).nonzero().flatten().tolist()) <= picked


def test_the_fixed_selection_gives_the_query_no_gradient() -> None:
    query, bank, read, _ = read_with_gradients(TapeConfig(6, None))
    read.tape_BND.square().sum().backward()
    assert query.grad is None or float(query.grad.abs().max()) == 0
    assert float(bank.grad.abs().sum()) > 0


def test_query_noise_is_for_training_only() -> None:
    reader, pair = make_reader(TapeConfig(6, 2.0, query_noise=1.0)), make_pair(30, seed=1)
    assert reader(*pair).query_BD.equal(reader(*pair).query_BD)
    reader.train()
    assert not reader(*pair).query_BD.equal(reader(*pair).query_BD)
    reader.config = replace(reader.config, halting_threshold=None)
    assert reader(*pair).query_BD.equal(reader(*pair).query_BD)


def test_the_bernoulli_mask_hides_entries_of_each_sample_in_training_only() -> None:
    reader = make_reader(TapeConfig(6, 2.0, bernoulli_p=0.5))
    query, bank = make_pair(40, seed=1)
    query, bank = query.expand(64, -1), bank.expand(64, -1, -1)
    assert len(reader(query, bank).picks_BNK[:, 0].unique(dim=0)) == 1
    torch.manual_seed(0)
    firsts = reader.train()(query, bank).picks_BNK[:, 0, 0]
    best = int(reader.eval()(query, bank).picks_BNK[0, 0, 0])
    assert 0.3 < float((firsts == best).float().mean()) < 0.7
