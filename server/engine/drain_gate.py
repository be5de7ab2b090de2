"""The doors of the server: who is inside when they close may stay, up to one moment; who comes later is refused.

    open ── close ──> the calls inside go on, new ones are refused ── all gone, or the time is up ──> over

A call is inside from its first byte until its answer is on its way. Each surface lets its calls in and out, so one
place knows whom the server still owes an answer, and one deadline ends them all.
"""

import asyncio
from collections.abc import Callable
from math import inf

from server.errors import Draining

RETRY_ELSEWHERE_S = 1.0
"""A draining server does not come back, but whoever balances between servers learns of it within about this."""
LAST_WORDS_S = 1.0
"""How long those whose time is up have to be told so."""


class Inside:
    """A call that is inside. It forgets its task when it leaves: the task's own frames hold this."""

    __slots__ = ("task",)

    def __init__(self, task: "asyncio.Task[object]") -> None:
        self.task: asyncio.Task[object] | None = task


class DrainGate:
    """Counts the calls inside, each by its task. All of it on one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._inside: set[asyncio.Task[object]] = set()
        self._replying: set[asyncio.Task[object]] = set()
        self._abandoned: set[asyncio.Task[object]] = set()
        self._closed_s = inf
        self._limit_s = 0.0
        self.is_hurried = False
        self._news = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        return self._closed_s < inf

    @property
    def num_inside(self) -> int:
        """Return the calls without an answer."""
        return len(self._inside)

    def is_inside(self) -> bool:
        """Say whether the running task is a call that came in while it could."""
        return asyncio.current_task() in self._inside

    def is_late(self, arrival_s: float) -> bool:
        """Say whether what came at this time came to closed doors."""
        return arrival_s >= self._closed_s

    def check(self, arrival_s: float) -> None:
        """Return if what came at this time may stay.

        Raises: Draining.
        """
        if self.is_late(arrival_s):
            raise self.late()

    def late(self) -> Draining:
        """Return what is told to who comes late."""
        return Draining("server", "draining", "ready", retry_after_s=RETRY_ELSEWHERE_S)

    def enter(self, arrival_s: float) -> Inside | None:
        """Let the running task in, as one to wait for; return None where it comes late, and is nobody's to wait for."""
        if self.is_late(arrival_s):
            return None
        call = asyncio.current_task()
        assert call is not None, "A surface runs in a task. This is a bug."
        self._inside.add(call)
        return Inside(call)

    def reply(self, call: Inside | None) -> None:
        """Note that a call has its answer: it is waited for while that is sent, and never told anything else."""
        if call is not None and call.task in self._inside:
            self._inside.discard(call.task)
            self._replying.add(call.task)

    def leave(self, call: Inside | None) -> None:
        """Let a call out."""
        if call is not None and call.task is not None:
            for calls in (self._inside, self._replying, self._abandoned):
                calls.discard(call.task)
            call.task = None
            if self.is_closed:
                self._news.set()

    def close(self) -> None:
        """Let in nobody who comes from now on."""
        self._closed_s = min(self._closed_s, self._clock())

    def hurry(self) -> None:
        """Wait no longer for anybody."""
        self.is_hurried = True
        self._news.set()

    async def wait_empty(self, limit_s: float) -> None:
        """Return once all are gone, the time is up, or there is a hurry."""
        self._limit_s = limit_s
        await asyncio.sleep(0)  # whose head is read already comes in now
        end_s = self._clock() + limit_s
        while (self._inside or self._replying) and not self.is_hurried and (left_s := end_s - self._clock()) > 0:
            self._news.clear()
            await _wait(self._news, left_s)

    async def abandon(self) -> int:
        """Tell those who are left without an answer that they get none; return how many they were."""
        self._abandoned = set(self._inside)
        for call in self._abandoned:
            call.cancel()
        num_abandoned = len(self._abandoned)
        if self._abandoned:
            await asyncio.wait(set(self._abandoned), timeout=LAST_WORDS_S)
        return num_abandoned

    def reason(self) -> Draining | None:
        """Return why the running task was cancelled, if its time is up; None where somebody else did it."""
        return self.time_is_up() if asyncio.current_task() in self._abandoned else None

    def refusal(self) -> Draining | None:
        """Return what the running task answers if it was cancelled because its time is up, and take that back.

        None where somebody else cancelled it: then the caller raises the cancellation on.
        """
        call = asyncio.current_task()
        if call not in self._abandoned:
            return None
        call.uncancel()
        self._abandoned.discard(call)
        return self.time_is_up()

    def time_is_up(self) -> Draining:
        """Return why what was accepted is not finished."""
        got = "stopped at once" if self.is_hurried else f"unfinished after {self._limit_s:g} s"
        return Draining("request", got, "to finish in time", retry_after_s=RETRY_ELSEWHERE_S)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return
