"""Estimates when a request arrived that the server reads only now.

The event loop polls its sockets once in each of its turns, and then handles all that it found:

    poll ──> read, check, answer, … ──> poll ──> …
      └───── what arrives meanwhile waits in the sockets

On a busy loop a turn takes milliseconds. If the time of reading counted as the time of arrival, an overloaded server
would seem to keep its service level.
"""

import asyncio
import time
from collections.abc import Callable

AT_ONCE_S = 0.0002
"""A request that is read within this time after a poll was in the socket before that poll."""


class ArrivalEstimator:
    """Estimates arrivals on one event loop: halfway between the poll that found a request and the poll before it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._poll_s = self._previous_poll_s = float("-inf")
        self._is_poll_due = False
        self._arrival_s = float("-inf")

    def estimate(self) -> float:
        """Return when the request that is read now arrived. Call it on the event loop, at each read of a request.

        Units: seconds of the clock.
        """
        if not self._is_poll_due:
            self._is_poll_due = True
            asyncio.get_running_loop().call_soon(self._note_poll)
            now = self._clock()
            has_waited_in_socket = now - self._poll_s <= AT_ONCE_S
            self._arrival_s = (self._previous_poll_s + self._poll_s) / 2 if has_waited_in_socket else now
        return self._arrival_s

    def _note_poll(self) -> None:
        """Store the time of the next poll: the loop runs this as the last callback before it."""
        self._is_poll_due = False
        self._previous_poll_s, self._poll_s = max(self._poll_s, self._arrival_s), self._clock()
