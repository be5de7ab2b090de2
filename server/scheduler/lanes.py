"""Tickets waiting for one kind of execution, earliest due first."""

import heapq
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Generic, TypeVar

from server.records import Priority


class Stage(StrEnum):
    """A kind of execution. `embed` is the reader with every cap at 0: it skips the bank and the reading."""

    EMBED = "embed"
    READ = "read"
    TRUNK = "trunk"


PATIENCE_S = {Priority.HIGH: 0.1, Priority.NORMAL: 1.0, Priority.LOW: 10.0}
"""How far behind its arrival a sample without a nearer deadline is due. A low priority sample is overtaken only by
those that arrive within its patience, so it ages into the front by itself."""


def due_s(arrival_s: float, deadline_s: float, priority: Priority) -> float:
    """Return when a sample ought to be served."""
    return min(deadline_s, arrival_s + PATIENCE_S[priority])


@dataclass(slots=True, eq=False)
class Ticket:
    """One sample's place in line; it keeps `due_s` and `order` through all its stages.

    Units: monotonic seconds. `due_s` is when it ought to be served, and orders the line; `deadline_s` is when its
    answer becomes worthless; `queued_s` is when it joined its present lane.
    """

    due_s: float
    order: int
    deadline_s: float = inf
    queued_s: float = 0.0
    lane: "Lane[Any] | None" = None


T = TypeVar("T", bound=Ticket)

_MIN_SWEEP = 64


@dataclass(slots=True, eq=False)
class Lane(Generic[T]):
    """A heap of tickets; one that leaves from the middle stays behind as a dead entry until it surfaces.

    Dead entries are swept when they outnumber the living, so leaving costs O(1) amortised and memory stays bounded.
    """

    model: str
    stage: Stage
    bucket: int
    limit: int
    num_waiting: int = 0
    _heap: list[tuple[float, int, T]] = field(default_factory=list)

    def push(self, ticket: T, now: float) -> None:
        assert ticket.lane is None, "A ticket stands in one lane at a time. This is a bug."
        ticket.lane = self
        ticket.queued_s = now
        self.num_waiting += 1
        heapq.heappush(self._heap, (ticket.due_s, ticket.order, ticket))

    def leave(self, ticket: T) -> None:
        """Take out a ticket that stands anywhere in this lane."""
        ticket.lane = None
        self.num_waiting -= 1
        if len(self._heap) > _MIN_SWEEP and self.num_waiting * 2 < len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].lane is self]
            heapq.heapify(self._heap)

    def head(self) -> T | None:
        """Return the ticket due first, which stays."""
        while self._heap and self._heap[0][2].lane is not self:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def pop(self, count: int) -> list[T]:
        """Take out up to `count` tickets, those due first."""
        taken: list[T] = []
        while len(taken) < count and self.head() is not None:
            ticket = heapq.heappop(self._heap)[2]
            ticket.lane = None
            taken.append(ticket)
        self.num_waiting -= len(taken)
        return taken
