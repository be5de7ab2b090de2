import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.fake import TAPE_CAPACITY, fake_manifest
from server.budget import BudgetTable, Ceilings
from server.errors import BadRequest
from server.records import BudgetReason, RequestLimits

MANIFEST = fake_manifest()
TABLE = BudgetTable(MANIFEST)

caps = st.integers(0, TAPE_CAPACITY + 4)
maybe_cap = st.none() | caps
ceilings = st.builds(Ceilings, policy=maybe_cap, degraded=maybe_cap, deadline=maybe_cap, quota=maybe_cap)
useful_flops = st.floats(TABLE.worst_flops[0], 2 * TABLE.worst_flops[-1])
asks = st.builds(RequestLimits, max_tape=maybe_cap, max_flops=st.none() | useful_flops)


def test_nothing_asked_nothing_bound():
    budget = TABLE.decide(RequestLimits())
    assert (budget.cap, budget.reason, budget.asked_cap) == (TAPE_CAPACITY, BudgetReason.MODEL, TAPE_CAPACITY)


def test_a_cap_above_the_capacity_means_no_cap():
    assert TABLE.decide(RequestLimits(max_tape=999)).reason is BudgetReason.MODEL


def test_a_negative_cap_is_an_error():
    with pytest.raises(BadRequest, match="max_tape; got -1"):
        TABLE.decide(RequestLimits(max_tape=-1))
    with pytest.raises(BadRequest, match="max_tape; got -3"):
        TABLE.decide(RequestLimits(), sample_max_tape=-3)


def test_a_sample_has_its_own_cap_beside_the_requests():
    assert TABLE.decide(RequestLimits(max_tape=8), sample_max_tape=3).cap == 3
    assert TABLE.decide(RequestLimits(max_tape=2), sample_max_tape=3).cap == 2


@given(useful_flops)
def test_max_flops_gives_the_largest_cap_that_always_fits(max_flops):
    cap = TABLE.decide(RequestLimits(max_flops=max_flops)).cap
    assert all(MANIFEST.flops.useful(length, cap) <= max_flops for length in range(cap + 1))
    if cap < TAPE_CAPACITY:
        assert MANIFEST.flops.useful(cap + 1, cap + 1) > max_flops


@pytest.mark.parametrize("max_flops", [0, TABLE.worst_flops[0] - 1, -5.0, math.nan])
def test_too_few_flops_name_the_minimum(max_flops):
    with pytest.raises(BadRequest, match=f"at least {TABLE.worst_flops[0]}"):
        TABLE.decide(RequestLimits(max_flops=max_flops))


def test_unlimited_flops_bind_nothing():
    assert TABLE.decide(RequestLimits(max_flops=math.inf)).reason is BudgetReason.MODEL


@pytest.mark.parametrize(("min_accuracy", "cap"), [(0, 0), (0.5, 0), (0.51, 1), (0.6, 4), (0.61, 8), (0.9, 16)])
def test_min_accuracy_gives_the_cheapest_cap_that_reaches_it(min_accuracy, cap):
    assert TABLE.decide(RequestLimits(min_accuracy=min_accuracy)).cap == cap


def test_accuracy_beyond_the_curve_names_the_best():
    with pytest.raises(BadRequest, match=r"at most 0\.9"):
        TABLE.decide(RequestLimits(min_accuracy=0.95))


@pytest.mark.parametrize("min_accuracy", [-0.1, math.nan])
def test_accuracy_must_be_a_fraction(min_accuracy):
    with pytest.raises(BadRequest, match="between 0 and 1"):
        TABLE.decide(RequestLimits(min_accuracy=min_accuracy))


def test_an_ask_that_contradicts_itself_is_an_error():
    with pytest.raises(BadRequest, match=r"min_accuracy; got 0\.9; .*max_tape 4.*needs 16"):
        TABLE.decide(RequestLimits(min_accuracy=0.9, max_tape=4))


@pytest.mark.parametrize("deadline_s", [0, -1, math.nan])
def test_a_deadline_lies_in_the_future(deadline_s):
    with pytest.raises(BadRequest, match="deadline"):
        TABLE.decide(RequestLimits(deadline_s=deadline_s))


@pytest.mark.parametrize(
    ("imposed", "reason"),
    [
        (Ceilings(policy=3), BudgetReason.POLICY),
        (Ceilings(degraded=3), BudgetReason.DEGRADED),
        (Ceilings(deadline=3), BudgetReason.DEADLINE),
        (Ceilings(quota=3), BudgetReason.QUOTA),
        (Ceilings(policy=5, quota=3), BudgetReason.QUOTA),
        (Ceilings(policy=3, quota=3), BudgetReason.POLICY),
    ],
)
def test_the_reason_names_the_rule_that_bound(imposed, reason):
    budget = TABLE.decide(RequestLimits(max_tape=8), ceilings=imposed)
    assert (budget.cap, budget.reason, budget.asked_cap) == (3, reason, 8)


def test_a_caller_who_asked_for_no_more_is_told_so():
    assert TABLE.decide(RequestLimits(max_tape=3), ceilings=Ceilings(degraded=3)).reason is BudgetReason.REQUESTED


@given(asks, maybe_cap, ceilings)
def test_law_the_cap_is_the_smallest_of_all_rules(ask, sample_max_tape, imposed):
    budget = TABLE.decide(ask, sample_max_tape, imposed)
    rules = [ask.max_tape, sample_max_tape, imposed.policy, imposed.degraded, imposed.deadline, imposed.quota]
    if ask.max_flops is not None:
        rules.append(TABLE.cap_for_flops(ask.max_flops))
    assert budget.cap == min([TAPE_CAPACITY, *(rule for rule in rules if rule is not None)])
    assert (budget.reason is BudgetReason.MODEL) == (budget.cap == TAPE_CAPACITY)
    assert budget.cap <= budget.asked_cap <= TAPE_CAPACITY


@given(asks, ceilings, caps, st.integers(0, 8))
def test_law_a_larger_ask_never_gets_a_smaller_cap(ask, imposed, cap, more):
    smaller, larger = TABLE.decide(ask, cap, imposed), TABLE.decide(ask, cap + more, imposed)
    assert larger.cap >= smaller.cap


@given(st.floats(TABLE.worst_flops[0], 2 * TABLE.worst_flops[-1]), st.floats(0, 1e4))
def test_law_more_flops_never_get_a_smaller_cap(max_flops, more):
    assert TABLE.cap_for_flops(max_flops + more) >= TABLE.cap_for_flops(max_flops)
