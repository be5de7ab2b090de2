"""The threads that run executions, and the event loop that may wait for them."""

import asyncio
from threading import Event

import pytest

from server.engine.instances import ThreadInstances
from server.settings import LINGER_S, Settings


class Work:
    """An execution that ends when it is let go."""

    is_over = True

    def __init__(self, *, is_let_go: bool = True) -> None:
        self.go = Event()
        self.has_run = False
        if is_let_go:
            self.go.set()

    def run(self) -> None:
        self.go.wait(10)
        self.has_run = True


async def run_one(instances: ThreadInstances, work: Work) -> tuple[bool, bool]:
    """Return whether the work had run when `submit` returned, and then when it was reported."""
    reported = asyncio.Event()
    instances.start()
    instances.submit(work, lambda _: reported.set())
    had_run = work.has_run
    work.go.set()
    await reported.wait()
    instances.stop()
    return had_run, work.has_run


async def test_the_event_loop_goes_on_during_an_execution():
    assert await run_one(ThreadInstances(1), Work(is_let_go=False)) == (False, True)


async def test_a_lingering_event_loop_waits_for_an_execution():
    assert await run_one(ThreadInstances(1, linger_s=10), Work()) == (True, True)


async def test_it_does_not_wait_for_one_that_hangs():
    assert await run_one(ThreadInstances(1, linger_s=0.001), Work(is_let_go=False)) == (False, True)


async def test_what_outlasts_a_wait_does_not_end_the_next():
    instances, slow, next_one = ThreadInstances(1, linger_s=0.001), Work(is_let_go=False), Work()
    reports: asyncio.Queue[Work] = asyncio.Queue()
    instances.start()
    instances.submit(slow, reports.put_nowait)
    slow.go.set()
    assert await reports.get() is slow
    instances.submit(next_one, reports.put_nowait)
    assert await reports.get() is next_one
    instances.stop()


@pytest.mark.parametrize(
    ("cores", "settings", "expected"),
    [
        ({0}, {}, LINGER_S),
        ({0, 1}, {}, 0.0),
        ({0}, {"num_instances": 2}, 0.0),
        ({0}, {"backend": "triton"}, 0.0),
    ],
    ids=["one core", "two cores", "two instances", "a gateway"],
)
def test_the_event_loop_lingers_only_where_it_would_share_its_core(monkeypatch, cores, settings, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: cores)
    assert Settings(**settings).linger_s == expected
