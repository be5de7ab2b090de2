"""What the server does again and again beside requests, and what becomes of it when that fails.

    wait ──> do ──> wait …        as long as the server runs, whatever an attempt comes to
              └── fails ──> told once, counted each time ──> the next attempt ──> "back", told once

None of it can die unseen: an attempt that raises, or comes to no end in time, is a failed attempt and no more.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable

from server.metrics import Metrics

_log = logging.getLogger("adatape.chores")

LIMIT_S = 30.0
"""How long one attempt may take; what it waits for is left alone then."""


class Failures:
    """Tells of the failures of one kind of work: each is counted, the first of several in a row is logged."""

    def __init__(self, chore: str, metrics: Metrics) -> None:
        self._chore = chore
        self._count = metrics.chore_failures
        self._count.declare([(chore,)])
        self._is_failing = False

    def failed(self, error: BaseException) -> None:
        """Note a failure."""
        self._count.add(1, self._chore)
        if not self._is_failing:
            _log.error("chore_failed chore=%s reason=%r", self._chore, str(error) or repr(error), exc_info=error)
        self._is_failing = True

    def succeeded(self) -> None:
        """Note an end without one."""
        if self._is_failing:
            _log.warning("chore_back chore=%s", self._chore)
        self._is_failing = False


class BackgroundTask:
    """One piece of work, done every `every_s` on the event loop that starts it. Lifetime: `start`, `stop`."""

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
        self._failures = Failures(name, metrics)
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._keep_on(), name=self._name)

    def soon(self) -> None:
        """Do it now, and not only when its time comes."""
        self._soon.set()

    async def stop(self) -> None:
        """Do it no more; an attempt that runs is cut off."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._soon.wait()
            self._soon.clear()
            await self.attempt()

    async def attempt(self) -> None:
        """Do it once; a failure is noted, never raised."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._work()
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the next attempt comes
            self._failures.failed(error)
        else:
            self._failures.succeeded()


def keep_on(stopping: threading.Event, every_s: float, work: Callable[[], object], failures: Failures) -> None:
    """Do some work again and again on the running thread, until it is told to stop; whatever fails, it goes on."""
    while not stopping.wait(every_s):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the next attempt comes
            failures.failed(error)
        else:
            failures.succeeded()
