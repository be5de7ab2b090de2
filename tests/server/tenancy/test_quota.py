"""The quota's laws: never more than burst and rate allow, smaller caps before refusals, and a wait that is true."""

from math import inf, isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.tenancy.quota import TokenBucket, cost_flops, grant_cap

WORST = [100, 140, 180, 220, 260]
CAPACITY = len(WORST) - 1
rates, bursts = st.floats(1, 1e12), st.floats(1, 1e13)
caps = st.lists(st.integers(0, CAPACITY), min_size=1, max_size=8)
steps = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=50)


def test_a_new_quota_is_full():
    assert TokenBucket.full(10, 100, 5.0).left(5.0) == 100


@given(rates, bursts, steps)
def test_what_is_spent_is_bounded_by_burst_and_rate(rate, burst, steps):
    bucket, now, spent = TokenBucket.full(rate, burst, 0.0), 0.0, 0.0
    for seconds, share in steps:
        now += seconds
        flops = share * max(0.0, bucket.left(now))
        bucket.spend(flops, now)
        spent += flops
        assert spent <= (burst + rate * now) * (1 + 1e-9)
        assert bucket.left(now) <= burst


@given(rates, bursts, st.floats(0, 1), st.floats(0, 1))
def test_after_the_wait_there_is_enough_and_before_there_is_not(rate, burst, spent, wanted):
    bucket = TokenBucket.full(rate, burst, 0.0)
    bucket.spend(spent * burst, 0.0)
    wait_s = bucket.wait_s(wanted * burst, 0.0)
    rounding = 1e-9 * burst
    if rate * wait_s > rounding:
        assert bucket.left(wait_s * 0.99) < wanted * burst
    assert bucket.left(wait_s) >= wanted * burst - rounding


def test_more_than_a_full_quota_is_never_there():
    assert isinf(TokenBucket.full(10, 100, 0.0).wait_s(101, 0.0))


def test_what_is_paid_back_never_overfills():
    bucket = TokenBucket.full(10, 100, 0.0)
    bucket.spend(50, 0.0)
    bucket.spend(-50, 100.0)
    assert bucket.left(100.0) == 100


def test_a_clock_that_went_back_refills_nothing():
    bucket = TokenBucket.full(10, 100, 10.0)
    bucket.spend(100, 10.0)
    assert bucket.left(5.0) == 0


def test_another_policy_keeps_what_is_left():
    bucket = TokenBucket.full(10, 100, 0.0)
    bucket.spend(70, 0.0)
    bucket.reshape(1, 1000, 0.0)
    assert (bucket.left(0.0), bucket.left(10.0)) == (30, 40)
    bucket.reshape(1, 20, 10.0)
    assert bucket.left(10.0) == 20


@given(st.floats(-100, 3000), st.floats(0, 3000), caps, st.integers(0, CAPACITY))
def test_what_is_granted_can_be_paid_and_is_no_less_than_the_floor(left, soft, caps, least):
    ceiling = grant_cap(left, soft, WORST, caps, least)
    if ceiling is None:
        assert cost_flops(WORST, caps, least) > left
    else:
        assert cost_flops(WORST, caps, ceiling) <= left
        assert least <= ceiling <= CAPACITY


@given(st.floats(-100, 3000), st.floats(0, 500), st.floats(0, 3000), caps, st.integers(0, CAPACITY))
def test_more_left_never_means_a_smaller_cap(left, more, soft, caps, least):
    few, many = (grant_cap(flops, soft, WORST, caps, least) for flops in (left, left + more))
    assert (-1 if few is None else few) <= (-1 if many is None else many)


@given(st.floats(0, 3000), st.integers(0, CAPACITY))
def test_above_the_soft_limit_nothing_shrinks_that_can_be_paid(soft, cap):
    assert grant_cap(soft + 10 * WORST[-1], soft, WORST, [cap], 0) == CAPACITY


def test_below_the_soft_limit_caps_shrink_step_by_step():
    seen = [grant_cap(left, 1600, WORST, [CAPACITY], 0) for left in (1600, 1599, 1200, 800, 400, 100, 99)]
    assert seen == [4, 3, 3, 2, 1, 0, None]


@pytest.mark.parametrize("least", [0, 2, 99])
def test_a_floor_beyond_the_models_tape_is_all_of_its_tape(least):
    assert grant_cap(inf, 0, WORST, [CAPACITY], least) == CAPACITY
    assert (grant_cap(WORST[-1] - 1, 0, WORST, [CAPACITY], least) is None) == (least > CAPACITY)
