"""The choice of buckets against every other choice there is."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.buckets import check_buckets, choose_buckets, expected_flops, used_shares
from export.errors import ExportError


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[float], int]:
    capacity = draw(st.integers(1, 8))
    counts = draw(st.lists(st.integers(0, 50), min_size=capacity + 1, max_size=capacity + 1).filter(any))
    steps = draw(st.lists(st.integers(1, 100), min_size=capacity + 1, max_size=capacity + 1))
    costs = [float(sum(steps[: length + 1])) for length in range(capacity + 1)]
    return counts, costs, draw(st.integers(2, capacity + 1))


@given(problems())
def test_no_other_choice_costs_less(problem):
    counts, costs, num_buckets = problem
    capacity = len(counts) - 1
    inner = combinations(range(1, capacity), num_buckets - 2)
    least = min(expected_flops(counts, costs, (0, *middle, capacity)).executed for middle in inner)
    chosen = choose_buckets(counts, costs, num_buckets)
    assert expected_flops(counts, costs, chosen).executed == least


@given(problems())
def test_choice_has_both_ends_and_the_asked_size(problem):
    counts, costs, num_buckets = problem
    chosen = choose_buckets(counts, costs, num_buckets)
    assert check_buckets(chosen, len(counts) - 1) == chosen
    assert len(chosen) == num_buckets


@given(problems())
def test_cost_lies_between_oracle_and_padding_to_the_longest(problem):
    counts, costs, num_buckets = problem
    found = expected_flops(counts, costs, choose_buckets(counts, costs, num_buckets))
    assert found.oracle <= found.executed <= found.pad_to_max


@given(problems())
def test_a_bucket_for_every_length_is_the_oracle(problem):
    counts, costs, _ = problem
    found = expected_flops(counts, costs, choose_buckets(counts, costs, len(counts)))
    assert found.executed == pytest.approx(found.oracle)


@given(problems(), st.floats(0, 1))
def test_shares_of_used_lengths_sum_to_one_and_shrink_towards_zero(problem, capped_share):
    counts = problem[0]
    shares = used_shares(counts, capped_share)
    assert sum(shares) == pytest.approx(1)
    longest_first = [sum(shares[length:]) for length in range(len(counts))]
    wanted = [sum(counts[length:]) / sum(counts) for length in range(len(counts))]
    assert all(used <= asked + 1e-9 for used, asked in zip(longest_first, wanted, strict=True))


def test_without_caps_used_is_wanted():
    assert used_shares([0, 1, 3], 0.0) == [0, 0.25, 0.75]


def test_caps_are_drawn_evenly():
    assert used_shares([0, 0, 4], 1.0) == [0, 0.5, 0.5]


def test_lengths_that_nobody_uses_get_no_bucket():
    assert choose_buckets([1, 0, 0, 9, 0, 0, 1], [1, 2, 3, 4, 5, 6, 7], 3) == (0, 3, 6)


@pytest.mark.parametrize("num_buckets", [1, 4])
def test_impossible_numbers_are_refused(num_buckets):
    with pytest.raises(ExportError, match=rf"--num-buckets; got {num_buckets}; expected 2 to 3"):
        choose_buckets([1, 1, 1], [1, 2, 3], num_buckets)


@pytest.mark.parametrize("buckets", [(0, 2), (1, 4), (0, 2, 2, 4), (0, 3, 2, 4), (0, 2, 5)])
def test_hand_picked_buckets_are_checked(buckets):
    with pytest.raises(ExportError, match="expected increasing from 0 to 4"):
        check_buckets(buckets, 4)


def test_expectation_says_what_it_compares():
    text = str(expected_flops([0.5, 0, 0.5], [1e6, 2e6, 3e6], (0, 2)))
    assert text == (
        "buckets 0, 2: 2.00 MFLOPs expected in the trunk, 0.0% above one bucket a length (2.00), "
        "33.3% below padding to the longest (3.00)"
    )
