"""The reading of the graphs is the reading of the model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adatape.config import TapeConfig
from adatape.reader import TapeReader
from export.modules import read_all_steps, wanted_length

DIM = 8


@pytest.mark.parametrize("threshold", [1.0, 1.7, 2.0, 3.3, 5.0])
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), complex_query=st.booleans(), key_split=st.sampled_from([1, 2]))
def test_reading_is_that_of_the_model(threshold, seed, complex_query, key_split):
    tape = TapeConfig(capacity=5, halting_threshold=threshold, complex_query=complex_query, key_split=key_split)
    generator = torch.Generator().manual_seed(seed)
    reader = TapeReader(tape, DIM).eval()
    query_BD = torch.randn(3, DIM, generator=generator)
    bank_BMD = torch.randn(3, 5 * tape.reads_per_step + 2, DIM, generator=generator)
    expected = reader(query_BD, bank_BMD)
    mixing_BNM, picks_BNK, weights_BNK = read_all_steps(expected.query_BD, expected.bank_BMD, tape, reader.key_dim)
    wanted_B1 = wanted_length(weights_BNK, tape)
    is_used_BN1 = (torch.arange(5) < wanted_B1)[..., None]
    assert wanted_B1[:, 0].tolist() == expected.wanted_B.tolist()
    assert torch.equal(torch.where(is_used_BN1, picks_BNK, -1), expected.picks_BNK)
    torch.testing.assert_close(weights_BNK * is_used_BN1, expected.weights_BNK, atol=1e-5, rtol=0)
    torch.testing.assert_close((mixing_BNM @ expected.bank_BMD) * is_used_BN1, expected.tape_BND, atol=1e-5, rtol=0)


def test_no_entry_is_picked_twice_even_when_the_bank_is_used_up():
    tape = TapeConfig(capacity=4, halting_threshold=2.0)
    bank_BMD = torch.randn(2, 8, DIM, generator=torch.Generator().manual_seed(0))
    _, picks_BNK, _ = read_all_steps(bank_BMD[:, 0], bank_BMD, tape, DIM)
    assert picks_BNK.flatten(1).sort(dim=1).values.tolist() == [list(range(8))] * 2
