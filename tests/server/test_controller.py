"""Which cap keeps the service level: the pure policy, then the engine in fake time."""

import asyncio
import logging
from functools import partial
from itertools import pairwise
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.policies import POLICIES, FixedCap
from server.app.controller import ControllerState
from server.backends.fake import BUCKETS, FAMILY, TAPE_CAPACITY, fake_manifest
from server.controller import CALM, FULL, SPARE, ArrivalRate, Controller, Outlook, Rung
from server.engine.pilot import to_rungs
from server.errors import Overloaded, ServeError
from server.records import BudgetReason, Priority
from tests.server.simulation import images, random_images
from tests.server.surface import error, make_app, photo, result, serving
from tests.server.test_engine import in_world

SLO_S = 0.02
RUNGS = to_rungs(fake_manifest())
TOP = len(RUNGS) - 1


def outlook(answer_s, demand=(0.1, 0.1, 0.1, 0.1)):
    return Outlook(RUNGS, answer_s, demand)


IDLE = outlook([0.001, 0.002, 0.003, 0.004])
BUSY = outlook([0.010, 0.013, 0.020, 0.030])


def lowered():
    """Return a controller that has just gone to its second rung."""
    controller = Controller(SLO_S, len(RUNGS))
    assert controller.decide(0.0, BUSY).rung == 1
    return controller


# --- The policy ----------------------------------------------------------------------------------


def test_rungs_are_the_buckets_with_their_place_on_the_curve():
    assert [(rung.cap, rung.accuracy) for rung in RUNGS] == [(0, 0.5), (4, 0.6), (8, 0.7), (16, 0.9)]


def test_everyone_gets_what_they_want_below_the_service_level():
    assert Controller(SLO_S, len(RUNGS)).decide(0.0, IDLE).rung == TOP


def test_predicted_lateness_lowers_at_once_to_what_fits():
    choice = Controller(SLO_S, len(RUNGS)).decide(0.0, BUSY)
    assert choice.rung == 1
    assert choice.reason == "answers predicted after 30 ms, limit 14 ms"


def test_where_nothing_fits_the_lowest_is_chosen():
    assert Controller(SLO_S, len(RUNGS)).decide(0.0, outlook([1.0, 2.0, 3.0, 4.0])).rung == 0


def test_a_load_beyond_the_device_lowers_before_the_queue_is_full():
    growing = outlook([0.009, 0.009, 0.009, 0.009], [0.5, 0.9, 1.1, 1.5])
    choice = Controller(SLO_S, len(RUNGS)).decide(0.0, growing)
    assert (choice.rung, choice.reason) == (1, "the load takes 1.50 of the device")


def test_a_short_burst_is_let_pass():
    burst = outlook([0.006, 0.006, 0.006, 0.006], [0.5, 0.9, 1.1, 1.5])
    assert Controller(SLO_S, len(RUNGS)).decide(0.0, burst).rung == TOP


def test_it_raises_only_after_a_while():
    controller = lowered()
    assert controller.decide(SLO_S * 0.99, IDLE).rung == 1
    choice = controller.decide(SLO_S, IDLE)
    assert (choice.rung, choice.reason) == (TOP, "the load would take 0.10 of the device")


def test_it_tries_one_rung_that_the_load_would_not_bear_for_long():
    controller = lowered()
    spare = outlook([0.001, 0.002, 0.003, 0.004], [0.5, 0.9, 1.1, 1.5])
    choice = controller.decide(1.0, spare)
    assert (choice.rung, choice.reason) == (2, "answers would still come after 3 ms")
    assert controller.decide(2.0, spare).rung == 2


def test_tapes_that_add_next_to_nothing_are_for_when_there_is_time_in_plenty():
    """The two upper rungs add half a point each: no trial is made for them, and no device filled."""
    rungs = [Rung(rung.cap, accuracy, 0.0) for rung, accuracy in zip(RUNGS, (0.4, 0.78, 0.785, 0.79), strict=True)]

    def chosen(demand, after_s=1.0):
        controller = lowered()
        return controller.decide(after_s, Outlook(rungs, [0.001, 0.002, 0.003, 0.004], demand)).rung

    assert chosen([0.2, 0.6, 0.8, 0.9]) == 1
    assert chosen([0.2, 0.6, 0.7, 0.9]) == 2
    assert chosen([0.2, 0.5, 0.6, 0.7]) == TOP
    assert chosen([0.2, 0.5, 0.6, 0.7], after_s=9 * SLO_S) == 1
    busier = Outlook(rungs, [0.005, 0.006, 0.007, 0.008], [0.2, 0.5, 0.6, 0.7])
    choice = Controller(SLO_S, len(RUNGS)).decide(0.0, busier)
    assert (choice.rung, choice.reason) == (1, "answers predicted after 8 ms, and longer tapes add little")


def test_between_the_marks_nothing_moves():
    controller = lowered()
    between = outlook([0.008, 0.009, 0.010, 0.012], [0.5, 0.9, 1.1, 1.5])
    assert all(controller.decide(now, between).rung == 1 for now in range(10))


outlooks = st.lists(st.floats(0, 0.1), min_size=4, max_size=4).flatmap(
    lambda answers: st.lists(st.floats(0, 3), min_size=4, max_size=4).map(
        lambda demand: outlook(sorted(answers), sorted(demand))
    )
)


@given(st.lists(st.tuples(st.floats(0, 0.05), outlooks, st.floats(0, 0.04)), min_size=1, max_size=60))
def test_laws_of_the_controller(steps):
    """Rungs stay in range; it lowers only for cause and never keeps what is late; raises are rare and never late."""
    controller, now, rung, raised_s = Controller(SLO_S, len(RUNGS)), 0.0, TOP, -1.0
    for pause_s, seen, answer_s in steps:
        now += pause_s
        target_s, before = controller.target_s, rung
        rung = controller.decide(now, seen).rung
        assert 0 <= rung <= TOP
        if rung < before:
            assert seen.answer_s[before] > CALM * target_s
        if rung > before:
            assert now - raised_s >= SLO_S
            assert seen.answer_s[rung] <= CALM * target_s
            is_tried = seen.answer_s[rung] <= SPARE * target_s and rung == before + 1
            assert seen.demand[rung] <= FULL or (is_tried and (rung == 1 or seen.demand[before] <= FULL))
            raised_s = now
        if rung == before > 0:
            assert seen.answer_s[rung] <= target_s
        controller.observe(now, answer_s)
        assert 0 < controller.target_s <= controller.limit_s < SLO_S


def test_the_margin_settles_where_one_answer_in_a_hundred_is_late():
    """The world answers within the target times a scatter; the margin finds the quantile of the scatter."""
    rng = np.random.default_rng(1)
    controller = Controller(SLO_S, len(RUNGS))
    late = []
    for number, scatter in enumerate(0.7 + 0.2 * rng.standard_normal(40_000) ** 2):
        answer_s = controller.target_s * scatter
        late.append(answer_s > SLO_S)
        controller.observe(number * SLO_S, answer_s)
    assert np.mean(late[20_000:]) == pytest.approx(0.01, abs=0.003)


def test_a_late_answer_weighs_as_much_as_99_in_time():
    controller = Controller(SLO_S, len(RUNGS))
    for _ in range(10):
        controller.observe(0.0, 2 * SLO_S)
    lowered_s = controller.target_s
    for number in range(9 * 99):
        controller.observe(number * 0.001, 0.0)
    assert lowered_s < controller.target_s < 0.7 * SLO_S
    controller.observe(1.0, 2 * SLO_S)
    assert controller.target_s == pytest.approx(lowered_s + 8 / 10 * (0.7 * SLO_S - lowered_s))


def test_the_margin_leaves_room_for_pauses():
    controller = Controller(SLO_S, len(RUNGS))
    for number in range(1000):
        controller.observe(number * 0.001, 0.0)
    assert controller.target_s == 0.7 * SLO_S


def test_the_arrival_rate_forgets():
    rate = ArrivalRate(memory_s=0.1)
    for tick in range(1000):
        rate.add(tick * 0.001, 2)
    assert rate.at(1.0) == pytest.approx(2000, rel=0.02)
    assert rate.at(2.0) < 0.2


# --- The rivals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
@given(steps=st.lists(st.tuples(st.floats(0, 0.05), outlooks, st.floats(0, 0.04)), min_size=1, max_size=30))
def test_every_policy_stays_on_its_rungs(name, steps):
    policy, now = POLICIES[name](SLO_S, len(RUNGS)), 0.0
    for pause_s, seen, answer_s in steps:
        now += pause_s
        assert policy.least_rung <= policy.decide(now, seen).rung <= TOP
        policy.observe(now, answer_s)
        assert 0 < policy.limit_s <= SLO_S


def test_rivals_do_what_their_names_say():
    full, zero, aimd, slackfit = (POLICIES[name](SLO_S, len(RUNGS)) for name in ("full", "zero", "aimd", "slackfit"))
    assert (full.decide(0.0, BUSY).rung, zero.decide(0.0, IDLE).rung) == (TOP, 0)
    assert (slackfit.decide(0.0, BUSY).rung, slackfit.decide(0.0, IDLE).rung) == (2, TOP)
    aimd.decide(0.0, IDLE)
    aimd.observe(0.0, 0.03)
    rungs = [aimd.decide(now * 1.01 * SLO_S, IDLE).rung for now in range(1, 5)]
    assert rungs == [1, 2, 3, 3]


# --- On the engine -------------------------------------------------------------------------------


async def offer(world, load, seconds, **ask):
    """Offer Poisson arrivals of single images at a multiple of what full tape can bear at best; return the results."""
    rng = np.random.default_rng(1)
    rate = load / world.engine.shelf.families[FAMILY].costs.sample_s[-1]
    times_s = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    pixels = random_images(64, 3)

    async def call(number, at_s):
        await asyncio.sleep(at_s)
        try:
            return (await world.infer(pixels[number % 64][None], **ask)).samples[0].receipt
        except ServeError as error:
            return error

    return await asyncio.gather(*(call(number, at_s) for number, at_s in enumerate(times_s)))


def attainment(results):
    return np.mean([not isinstance(result, ServeError) and result.total_s <= SLO_S for result in results])


def served(results):
    return [result for result in results if not isinstance(result, ServeError)]


def run_load(load, seconds=0.5, **options):
    return in_world(lambda world: offer(world, load, seconds), slo_ms=SLO_S * 1000, **options)


def test_a_light_load_gets_full_tape():
    results = run_load(0.6)
    assert attainment(results) == 1
    assert {receipt.cap for receipt in results} == {TAPE_CAPACITY}


def test_overload_shrinks_tapes_before_anyone_is_refused():
    """Half more than full tape can bear: every answer in time, at more tape than the best fixed cap that is safe."""
    results = run_load(1.5)
    assert attainment(results) >= 0.99
    caps = [receipt.cap for receipt in served(results)]
    assert 2 < np.mean(caps) < TAPE_CAPACITY
    assert {receipt.budget_reason for receipt in served(results)} >= {BudgetReason.DEGRADED}
    assert attainment(run_load(1.5, make_policy=POLICIES["full"])) < 0.5
    assert attainment(run_load(1.5, make_policy=POLICIES["slackfit"])) < 0.9


def test_only_what_zero_tape_would_answer_late_is_refused():
    results = run_load(4.0, seconds=0.2)
    refusals = [result for result in results if isinstance(result, ServeError)]
    assert len(refusals) > 0.2 * len(results)
    assert all(isinstance(refusal, Overloaded) and refusal.retry_after_s > 0 for refusal in refusals)
    assert "s at max_tape 0; expected one within 0.0" in str(refusals[0])
    late = [receipt for receipt in served(results) if receipt.total_s > SLO_S]
    assert len(late) <= 0.1 * len(results)


def test_after_overload_full_tape_comes_back():
    async def scenario(world):
        await offer(world, 2.0, 0.2)
        await asyncio.sleep(1.0)
        return await world.infer(images(252))

    assert in_world(scenario, slo_ms=SLO_S * 1000).samples[0].receipt.cap == TAPE_CAPACITY


def test_without_a_service_level_there_is_no_controller():
    async def scenario(world):
        results = await offer(world, 1.5, 0.2)
        assert world.engine.shelf.families[FAMILY].pilot is None
        return results

    assert {receipt.cap for receipt in in_world(scenario)} == {TAPE_CAPACITY}


def test_a_dry_run_decides_and_changes_nothing(caplog):
    async def scenario(world):
        results = await offer(world, 1.5, 0.2)
        assert world.value("adatape_controller_moves_total", model=FAMILY, direction="down") > 0
        return results

    with caplog.at_level(logging.INFO, "adatape.controller"):
        results = in_world(scenario, slo_ms=SLO_S * 1000, slo_dry_run=True)
    assert {receipt.cap for receipt in results} == {TAPE_CAPACITY}
    assert "cap_moved model=adatape_fake from=16 to=" in caplog.text
    assert "dry_run=True" in caplog.text


def test_every_move_is_kept_counted_and_logged_with_its_reason(caplog):
    async def scenario(world):
        await offer(world, 1.5, 0.2)
        pilot = world.engine.shelf.families[FAMILY].pilot
        moved = [world.value("adatape_controller_moves_total", model=FAMILY, direction=d) for d in ("up", "down")]
        assert len(pilot.moves) == sum(moved)
        assert world.value("adatape_controller_cap", model=FAMILY) == pilot.cap == pilot.moves[-1].cap
        assert all(earlier.cap == later.cap_before for earlier, later in pairwise(pilot.moves))
        return pilot.moves

    with caplog.at_level(logging.INFO, "adatape.controller"):
        moves = in_world(scenario, slo_ms=SLO_S * 1000)
    logged = [record.getMessage() for record in caplog.records if "cap_moved" in record.getMessage()]
    assert len(logged) == len(moves) > 0
    assert all(move.reason in line for move, line in zip(moves, logged, strict=True))


def test_attainment_is_counted_for_high_and_normal_priority():
    async def scenario(world):
        results = await offer(world, 0.5, 0.05) + await offer(world, 0.5, 0.05, priority=Priority.LOW)
        met, late = (
            world.value("adatape_slo_answers_total", model=FAMILY, result=result) for result in ("met", "late")
        )
        assert met + late == len(results) / 2

    in_world(scenario, slo_ms=SLO_S * 1000)


def test_a_floor_keeps_high_priority_from_losing_all_tape():
    async def scenario(world):
        crowd = asyncio.create_task(offer(world, 2.0, 0.2))
        await asyncio.sleep(0.1)
        answer = await world.infer(images(252), priority=Priority.HIGH)
        await crowd
        return answer.samples[0].receipt, served(crowd.result())

    receipt, others = in_world(scenario, slo_ms=SLO_S * 1000, min_tape_high=8)
    assert receipt.cap >= 8
    assert min(other.cap for other in others) == 0


def test_caps_are_worth_their_cost_so_only_buckets_are_chosen():
    results = run_load(1.7, seconds=0.2)
    assert {receipt.cap for receipt in served(results)} <= set(BUCKETS)


def test_the_demand_that_is_seen_is_that_of_the_load():
    async def scenario(world):
        await offer(world, 0.8, 0.3)
        return world.engine.shelf.families[FAMILY].pilot.outlook.demand[-1]

    assert isclose(in_world(scenario, slo_ms=SLO_S * 1000), 0.8, rel_tol=0.3)


def test_any_policy_can_take_the_controllers_place():
    results = run_load(0.5, seconds=0.05, make_policy=partial(FixedCap, rung=1))
    assert {receipt.cap for receipt in results} == {4}


# --- Over HTTP -----------------------------------------------------------------------------------


async def test_the_controller_is_off_without_a_service_level():
    async with serving() as client:
        assert (await client.get("/v1/controller")).json() == {"mode": "off", "slo_ms": None, "models": []}


@pytest.mark.parametrize(("dry", "mode"), [(False, "on"), (True, "dry_run")])
async def test_the_controller_shows_what_it_sees(dry, mode):
    async with serving(slo_ms=500, slo_dry_run=dry) as client:
        (before,) = (await client.get("/v1/controller")).json()["models"]
        assert {rung["predicted_ms"] for rung in before["rungs"]} == {None}
        await result(client, content=photo())
        state = ControllerState.model_validate_json((await client.get("/v1/controller")).content)
    assert (state.mode, state.slo_ms) == (mode, 500)
    (model,) = state.models
    assert (model.model, model.cap, model.moves) == (FAMILY, TAPE_CAPACITY, [])
    assert [rung.cap for rung in model.rungs] == list(BUCKETS)
    assert all(rung.predicted_ms > 0 and rung.load > 0 for rung in model.rungs)


async def test_moves_are_shown_newest_first():
    app = make_app(slo_ms=500)
    async with serving(app) as client:
        pilot = app.engine.shelf.families[FAMILY].pilot
        for now, answer_s in [(0.0, [1.0] * 4), (1.0, [0.001] * 4)]:
            pilot.steer(now, answer_s, 1)
        (model,) = (await client.get("/v1/controller")).json()["models"]
    assert [(move["cap_before"], move["cap"]) for move in model["moves"]] == [(0, 16), (16, 0)]
    assert model["moves"][1]["reason"] == "answers predicted after 1e+03 ms, limit 350 ms"
    assert model["moves"][0]["ago_ms"] < model["moves"][1]["ago_ms"]


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
async def test_a_priority_may_be_asked_for(priority):
    async with serving() as client:
        await result(client, content=photo(), params={"priority": priority})
        await result(client, content=photo(), headers={"X-Priority": priority})


@pytest.mark.parametrize("priority", ["HIGH", "1", ""])
async def test_an_unknown_priority_is_refused(priority):
    async with serving() as client:
        message = await error(client, 400, content=photo(), params={"priority": priority})
    assert message.startswith("priority in the query; got ")
    assert message.endswith("expected high, normal or low")
