"""Work that the server repeats beside requests, and how it counts and logs the attempts that fail.

    wait ──> attempt ──> wait ──> …                  until the server stops, whatever an attempt raises
                └── fails ──> counted each time; logged once ──> the next success: logged as recovered

An attempt that raises, or does not end in time, is a failed attempt. It never ends the repetition.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable

from server.metrics import Metrics

_log = logging.getLogger("adatape.background_tasks")

LIMIT_S = 30.0
"""How long one attempt may take; it is cancelled then."""


class FailureLog:
    """Records the failures of one task: counts each one, and logs the first of several in a row."""

    def __init__(self, task: str, metrics: Metrics) -> None:
        self._task = task
        self._count = metrics.background_task_failures
        self._count.declare([(task,)])
        self._is_failing = False

    def failed(self, error: BaseException) -> None:
        """Record a failed attempt."""
        self._count.add(1, self._task)
        if not self._is_failing:
            _log.error(
                "background_task_failed task=%s reason=%r", self._task, str(error) or repr(error), exc_info=error
            )
        self._is_failing = True

    def succeeded(self) -> None:
        """Record a successful attempt."""
        if self._is_failing:
            _log.warning("background_task_recovered task=%s", self._task)
        self._is_failing = False


class BackgroundTask:
    """Runs some work every `every_s` seconds on the event loop that starts it. Lifetime: `start`, `stop`."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        every_s: float,
        metrics: Metrics,
        *,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._work = work
        self._name = name
        self._every_s = every_s
        self._limit_s = limit_s
        self._failures = FailureLog(name, metrics)
        self._is_due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to repeat the work."""
        self._task = asyncio.create_task(self._repeat(), name=self._name)

    def run_soon(self) -> None:
        """Begin the next attempt now instead of waiting for its time."""
        self._is_due.set()

    async def stop(self) -> None:
        """Stop repeating the work; cancel an attempt that runs."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _repeat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._is_due.wait()
            self._is_due.clear()
            await self.attempt()

    async def attempt(self) -> None:
        """Run the work once. A failure is recorded and never raised."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._work()
        except Exception as error:  # noqa: BLE001 - the edge: the next attempt follows whatever this one raised
            self._failures.failed(error)
        else:
            self._failures.succeeded()


def run_repeatedly(stopping: threading.Event, every_s: float, work: Callable[[], object], failures: FailureLog) -> None:
    """Repeat some work on the current thread until `stopping` is set, whatever an attempt raises."""
    while not stopping.wait(every_s):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the edge: the next attempt follows whatever this one raised
            failures.failed(error)
        else:
            failures.succeeded()
