"""The simulated server: what must hold whatever the arrivals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.caller_policies import Aimd, Fixed
from benchmarks.simulation import EXPIRED, OK, SHED, Fitted, Simulation, to_table
from loadtest.arrivals import poisson
from server.backends.fake import fake_manifest

MANIFEST = fake_manifest()
FULL = MANIFEST.tape_capacity
WANTED = [1, 4, 9, 16]


def fitted(request_s: float = 0.0) -> Fitted:
    tables: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for entry in MANIFEST.latency.entries:
        tables.setdefault((entry.stage, entry.bucket), []).append((entry.batch, entry.p50_s))
    limit = MANIFEST.max_batch_size
    return Fitted({key: to_table(points, limit) for key, points in tables.items()}, request_s=request_s)


def test_a_table_runs_straight_between_what_was_measured() -> None:
    assert to_table([(4, 4.0), (1, 1.0)], 5) == [1.0, 2.0, 3.0, 4.0, 4.0]


@given(st.integers(0, 100), st.floats(10, 5000), st.integers(0, FULL))
def test_every_request_is_settled_once_and_never_before_it_could_run(seed: int, rate: float, cap: int) -> None:
    times = poisson(rate, 0.2, np.random.default_rng(seed))
    simulated = Simulation(MANIFEST, fitted(), Fixed("fixed", cap)).run(times, WANTED)
    outcomes = simulated.outcomes
    assert (outcomes.status == OK).all()
    fastest = min(min(table) for table in fitted().tables.values())
    assert (outcomes.latency_s >= fastest).all()
    assert set(simulated.caps) <= {cap}


def test_a_request_alone_takes_its_two_executions() -> None:
    costs = fitted()
    outcomes = Simulation(MANIFEST, costs, Fixed("full", FULL)).run(np.zeros(1), [16]).outcomes
    assert outcomes.latency_s[0] == pytest.approx(costs.tables["read", 0][0] + costs.tables["trunk", 16][0])


def test_more_load_is_never_faster() -> None:
    p99s = []
    for rate in (200, 1000, 5000):
        times = poisson(rate, 1.0, np.random.default_rng(0))
        p99s.append(Simulation(MANIFEST, fitted(), Fixed("full", FULL)).run(times, WANTED).outcomes.percentile(99))
    assert p99s == sorted(p99s)


def test_a_smaller_cap_saturates_later() -> None:
    rates = [Simulation(MANIFEST, fitted(), Fixed("cap", cap)).closed_rate(64, 512, WANTED) for cap in (FULL, 4, 0)]
    assert rates == sorted(rates)


def test_work_beside_the_graphs_lowers_the_rate() -> None:
    slow, quick = (
        Simulation(MANIFEST, fitted(each), Fixed("f", FULL)).closed_rate(64, 512, WANTED) for each in (1e-3, 0)
    )
    assert slow < quick


def test_what_cannot_make_its_deadline_expires_and_what_finds_no_room_is_shed() -> None:
    outcomes = Simulation(MANIFEST, fitted(), Fixed("f", FULL, deadline_s=1e-6)).run(np.zeros(4), WANTED).outcomes
    assert outcomes.status.tolist() == [EXPIRED] * 4
    outcomes = Simulation(MANIFEST, fitted(), Fixed("f", FULL), max_pending=1).run(np.zeros(3), WANTED).outcomes
    assert outcomes.status.tolist() == [OK, SHED, SHED]


def test_aimd_halves_when_late_and_climbs_by_one_when_in_time() -> None:
    policy = Aimd("aimd", slo_s=0.1, capacity=16)
    assert policy.cap(0.0) == 16
    policy.saw(0.0, 0.2)
    assert policy.cap(0.2) == 8
    policy.saw(0.2, 0.01)
    assert policy.cap(0.25) == 8
    assert policy.cap(0.35) == 9
    assert policy.cap(0.50) == 9


def test_a_policy_shrinks_tapes_in_fake_time_as_it_does_on_the_engine() -> None:
    rate = 1.5 * Simulation(MANIFEST, fitted(), Fixed("all", FULL)).closed_rate(64, 512, WANTED)
    times = poisson(rate, 1.0, np.random.default_rng(0))
    steered = Simulation(MANIFEST, fitted(), Fixed("all", FULL), slo_s=0.02).run(times, WANTED)
    left = Simulation(MANIFEST, fitted(), Fixed("all", FULL)).run(times, WANTED)
    assert steered.outcomes.attainment(0.02) >= 0.99 > left.outcomes.attainment(0.02)
    assert 0 < np.mean(steered.caps) < FULL


def test_what_the_least_budget_would_answer_late_is_refused_in_fake_time() -> None:
    rate = 1.5 * Simulation(MANIFEST, fitted(), Fixed("none", 0)).closed_rate(64, 512, WANTED)
    times = poisson(rate, 0.5, np.random.default_rng(0))
    outcomes = Simulation(MANIFEST, fitted(), Fixed("all", FULL), slo_s=0.02).run(times, WANTED).outcomes
    assert SHED in outcomes.status
    assert (outcomes.status == OK).mean() > 0.4
