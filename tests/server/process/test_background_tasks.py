"""What is done again and again goes on whatever an attempt comes to, and its failures are seen."""

import asyncio
import logging
import threading

import pytest

from server.http.connection_limits import ConnectionLimiter
from server.metrics import Metrics
from server.process.background_tasks import BackgroundTask, FailureLog, run_repeatedly
from server.process.event_loop_watchdog import EventLoopWatchdog
from server.settings import Settings
from tests.server.simulation import simulate
from tests.server.surface import Wire, make_app

EVERY_S = 1.0


class Work:
    """Does as it is told, attempt by attempt: raises an error, hangs, or ends well."""

    def __init__(self, *outcomes):
        self.outcomes, self.num_attempts, self.is_over = list(outcomes), 0, asyncio.Event()

    async def __call__(self):
        self.num_attempts += 1
        outcome = self.outcomes.pop(0)
        if not self.outcomes:
            self.is_over.set()
        if outcome == "hang":
            await asyncio.Event().wait()
        if outcome is not None:
            raise outcome


def play(*outcomes):
    """Let a task do all of this; return the metrics."""
    metrics = Metrics()

    async def main():
        work = Work(*outcomes)
        task = BackgroundTask("test", work, EVERY_S, metrics)
        task.start()
        await work.is_over.wait()
        await asyncio.sleep(0)
        await task.stop()
        await task.stop()
        assert work.num_attempts == len(outcomes)

    simulate(main())
    return metrics


@pytest.mark.parametrize("error", [OSError("gone"), RecursionError(), MemoryError(), AssertionError("a bug")], ids=repr)
def test_an_attempt_that_fails_is_told_once_and_counted_and_the_next_one_comes(error, caplog):
    metrics = play(None, error, error, None, error, None)
    assert metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "test"}) == 3
    told = [record.getMessage() for record in caplog.records]
    assert [line.split()[0] for line in told] == [
        "background_task_failed",
        "background_task_recovered",
        "background_task_failed",
        "background_task_recovered",
    ]
    assert told[0] == f"background_task_failed task=test reason={str(error) or repr(error)!r}" or repr(error) in told[0]


def test_an_attempt_that_never_ends_is_one_that_failed(caplog):
    metrics = play("hang", None)
    assert metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "test"}) == 1
    assert "TimeoutError" in caplog.text


def test_a_task_waits_its_time_and_comes_sooner_when_asked_to():
    async def main():
        loop, work = asyncio.get_running_loop(), Work(*[None] * 9)
        task = BackgroundTask("test", work, EVERY_S, Metrics())
        task.start()
        await asyncio.sleep(2.5 * EVERY_S)
        assert work.num_attempts == 2
        asked_s = loop.time()
        task.run_soon()
        while work.num_attempts == 2:  # noqa: ASYNC110 - it takes a few turns
            await asyncio.sleep(0)
        assert loop.time() == asked_s
        await task.stop()
        await asyncio.sleep(2 * EVERY_S)
        assert work.num_attempts == 3

    simulate(main())


def test_a_thread_goes_on_as_well(caplog):
    metrics, stopping, outcomes = Metrics(), threading.Event(), [None, OSError("gone"), None]

    def work():
        outcome = outcomes.pop(0)
        if not outcomes:
            stopping.set()
        if outcome is not None:
            raise outcome

    run_repeatedly(stopping, 0, work, FailureLog("test", metrics))
    assert outcomes == []
    assert metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "test"}) == 1
    assert "background_task_recovered" in caplog.text


# --- The background tasks there are --------------------------------------------------------------------


async def test_one_connection_that_cannot_be_looked_at_does_not_end_the_looking():
    class Broken:
        since_s = 0.0

        @property
        def stage(self):
            raise RuntimeError("broken")

    metrics = Metrics()
    connection_limiter = ConnectionLimiter(Settings(backend="fake"), metrics)
    connection_limiter.watch([Broken()])
    for _ in range(2):
        await connection_limiter._sweeping.attempt()
    assert metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "connections"}) == 2
    assert not connection_limiter._sweeping._task.done()
    await connection_limiter.stop()


def test_a_watchdog_that_cannot_log_goes_on(monkeypatch):
    metrics = Metrics()
    watchdog = EventLoopWatchdog(metrics, is_expendable=False)
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            watchdog._stopping.set()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("server.process.event_loop_watchdog.TICK_S", 0)
    monkeypatch.setattr(watchdog, "_tick", tick)
    watchdog._watch()
    assert len(ticks) == 3
    assert (
        metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "event_loop_watchdog"})
        == 3
    )


async def test_what_dies_where_nobody_waits_for_it_is_counted(caplog):
    app = make_app()

    class Lifespan(Wire):
        async def receive(self):
            if len(self.incoming) == 1:
                loop = asyncio.get_running_loop()
                loop.call_soon(lambda: 1 / 0)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            return await super().receive()

    wire = Lifespan({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await app({"type": "lifespan"}, wire.receive, wire.send)
    asyncio.get_running_loop().set_exception_handler(None)
    counted = app._metrics.registry.get_sample_value("adatape_background_task_failures_total", {"task": "other"})
    assert counted == 1
    assert [record.levelno for record in caplog.records if record.name == "asyncio"] == [logging.ERROR]
