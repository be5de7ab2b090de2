"""Who waits for a time after which waiting is useless: by when each ticket must have started."""

import heapq
from collections import deque
from itertools import count
from typing import Generic

from server.scheduler.lanes import T

_MIN_SWEEP = 64


class Alarms(Generic[T]):
    """The tickets with a deadline, earliest start first.

    Most come in the order of their deadlines, since most callers ask for the same slack: those stand in a queue, where
    the next is found without comparing. The others stand in a heap. One entry is enough for all stages of a ticket: in
    a later stage less is left to run, so its time moves back, and an entry that surfaces too early is put in again.
    Entries of those who left are dropped where they surface, or swept when they may be half of all.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[float, int, T]] = deque()
        self._heap: list[tuple[float, int, T]] = []
        self._numbers = count()
        self._sweep_above = _MIN_SWEEP

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    def watch(self, ticket: T) -> None:
        """Come back to a ticket in line when it must start: at its `latest_s`."""
        if ticket.is_watched:
            return
        ticket.is_watched = True
        entry = (ticket.latest_s, next(self._numbers), ticket)
        if not self._queue or self._queue[-1][0] <= ticket.latest_s:
            self._queue.append(entry)
        else:
            heapq.heappush(self._heap, entry)
        if len(self) > self._sweep_above:
            self._sweep()

    def take_due(self, now: float) -> list[T]:
        """Return those in line who had to start by now; they are not watched any more."""
        surfaced: list[T] = []
        queue, heap = self._queue, self._heap
        while queue and (queue[0][0] <= now or queue[0][2].lane is None):
            surfaced.append(queue.popleft()[2])
        while heap and (heap[0][0] <= now or heap[0][2].lane is None):
            surfaced.append(heapq.heappop(heap)[2])
        for ticket in surfaced:
            ticket.is_watched = False
        waiting = [ticket for ticket in surfaced if ticket.lane is not None]
        for ticket in waiting:
            if ticket.latest_s > now:
                self.watch(ticket)
        return [ticket for ticket in waiting if ticket.latest_s <= now]

    def next_s(self) -> float | None:
        """Return the earliest time for which somebody is watched."""
        return min((entries[0][0] for entries in (self._queue, self._heap) if entries), default=None)

    def _sweep(self) -> None:
        """Forget those who left: amortised O(1)."""
        for _, _, ticket in (*self._queue, *self._heap):
            if ticket.lane is None:
                ticket.is_watched = False
        self._queue = deque(entry for entry in self._queue if entry[2].is_watched)
        self._heap = [entry for entry in self._heap if entry[2].is_watched]
        heapq.heapify(self._heap)
        self._sweep_above = max(2 * len(self), _MIN_SWEEP)
