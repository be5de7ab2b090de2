"""The estimate of an arrival time, from the turns of the event loop and a clock of the test."""

import asyncio

import pytest

from server.http.arrivals import ArrivalEstimator


def play(scene) -> list[float]:
    """Run a scene on a loop, with `at` to set the clock and estimate, and `turn` to let the loop ask again."""
    now, estimates = [0.0], []

    async def main() -> None:
        arrivals = ArrivalEstimator(lambda: now[0])

        def at(seconds: float, *, reads: bool = True) -> None:
            now[0] = seconds
            if reads:
                estimates.append(arrivals.estimate())

        await scene(at, lambda: asyncio.sleep(0))

    asyncio.run(main())
    return estimates


def test_what_wakes_a_waiting_loop_came_just_now():
    async def scene(at, turn):
        at(1.0)
        await turn()
        at(5.0)

    assert play(scene) == [1.0, 5.0]


def test_what_was_there_when_the_loop_asked_came_while_it_was_busy():
    async def scene(at, turn):
        at(1.0)
        at(1.02, reads=False)  # 20 ms of work
        await turn()  # asks at 1.02
        at(1.0201)
        at(1.03)  # read 10 ms later in the same turn: it came no later than the first

    assert play(scene) == [1.0, pytest.approx(1.01), pytest.approx(1.01)]


def test_on_a_busy_loop_each_turn_counts_from_the_one_before():
    async def scene(at, turn):
        at(1.0)
        for end_s in (1.02, 1.06):
            at(end_s, reads=False)
            await turn()
            at(end_s + 1e-4)

    assert play(scene) == [1.0, pytest.approx(1.01), pytest.approx(1.04)]


def test_no_estimate_lies_in_the_future_or_goes_back():
    async def scene(at, turn):
        for tick in range(50):
            at(tick * tick * 1e-4)
            if tick % 3:
                await turn()

    estimates = play(scene)
    assert estimates == sorted(estimates)
    assert all(came_s <= tick * tick * 1e-4 for tick, came_s in enumerate(estimates))
