"""When a request can have come that is read now: sockets are asked only between two turns of the event loop.

    ask ──> read, judge, answer, … ──> ask ──> …
     └──────── what comes meanwhile waits here, unseen

On a busy loop a turn takes milliseconds. Were its requests said to have come when they are read, an overload would look
like a server that keeps its promise.
"""

import asyncio
import time
from collections.abc import Callable

AT_ONCE_S = 0.0002
"""A loop that is told of a read no later than this had not been waiting for it: it was there already."""


class Arrivals:
    """Estimates arrivals on one event loop: halfway between the asking that found a request and the one before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_s = self._asked_before_s = float("-inf")
        self._is_asking_due = False
        self._came_s = float("-inf")

    def estimate(self) -> float:
        """Return when what is read now came. Call it on the event loop, at each read of a request.

        Units: seconds of the clock.
        """
        if not self._is_asking_due:
            self._is_asking_due = True
            asyncio.get_running_loop().call_soon(self._ask)
            now = self._clock()
            has_waited = now - self._asked_s <= AT_ONCE_S
            self._came_s = (self._asked_before_s + self._asked_s) / 2 if has_waited else now
        return self._came_s

    def _ask(self) -> None:
        """Note that the loop asks again; this is the last thing before it does."""
        self._is_asking_due = False
        self._asked_before_s, self._asked_s = max(self._asked_s, self._came_s), self._clock()
