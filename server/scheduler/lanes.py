"""Tickets waiting for one kind of execution, earliest due first."""

import heapq
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from server.records import BudgetReason, Priority

if TYPE_CHECKING:
    from server.scheduler.shares import Share


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

    `cap` and `reason` may still be lowered when its reader batch is formed.
    Units: monotonic seconds. `due_s` is when it ought to be served, and orders the line; `deadline_s` is when its
    answer becomes worthless; `latest_s` is when it must start to make that; `queued_s` is when it joined its lane.
    """

    due_s: float
    order: int
    cap: int
    deadline_s: float = inf
    priority: Priority = Priority.NORMAL
    reason: BudgetReason = BudgetReason.MODEL
    latest_s: float = inf
    queued_s: float = 0.0
    is_watched: bool = False
    """Whether an alarm is set for its deadline."""
    lane: "Lane[Any] | None" = None
    floor: int = 0
    """Its own least cap that load may impose, beside its priority's."""
    share: "Share | None" = None
    """Whose part of the device it takes, where that is shared between tenants."""

    def lower(self, cap: int, reason: BudgetReason) -> None:
        """Bind the cap by one more rule, if that is nearer than the present one."""
        if cap < self.cap:
            self.cap, self.reason = cap, reason


T = TypeVar("T", bound=Ticket)
Ask = tuple[Priority, int, int]
"""A ticket's priority, cap and floor: all that its cost depends on before it is read."""
Heap = list[tuple[float, int, T]]

MAX_LOOKS = 512
"""Tickets that one prediction may look at: enough for any deadline that is tight."""
_MIN_SWEEP = 64


@dataclass(slots=True, eq=False)
class Lane(Generic[T]):
    """A heap of tickets; one that leaves from the middle stays behind as a dead entry until it surfaces.

    Dead entries are swept when they outnumber the living, so leaving costs O(1) amortised and memory stays bounded.
    """

    model: str
    stage: Stage
    bucket: int
    num_waiting: int = 0
    num_deadlines: int = 0
    """Of those that wait, how many have a deadline."""
    asks: dict[Ask, int] = field(default_factory=dict)
    """How many wait by priority and cap; kept for the read stage only, where caps may still change."""
    _heap: Heap[T] = field(default_factory=list)

    def push(self, ticket: T, now: float) -> None:
        heapq.heappush(self._heap, self._enter(ticket, now))

    def leave(self, ticket: T) -> None:
        """Take out a ticket that stands anywhere in this lane."""
        ticket.lane = None
        self._count(ticket, -1)
        self._heap = swept(self._heap, self, self.num_waiting)

    def head(self) -> T | None:
        """Return the ticket due first, which stays."""
        return head_of(self._heap, self)

    def pop(self) -> T | None:
        """Take out the ticket due first."""
        ticket = self.head()
        if ticket is not None:
            heapq.heappop(self._heap)
            ticket.lane = None
            self._count(ticket, -1)
        return ticket

    def refund(self, ticket: T) -> None:
        """Learn that a ticket that was taken out did not run here."""

    def num_before(self, due_s: float, *, is_deadline: bool = False) -> int:
        """Count the tickets due before a time, or of them those with a deadline.

        Looks at no more than `MAX_LOOKS` of them, however many wait, and so may count too few far ahead.
        """
        return num_before(self._heap, self, due_s, is_deadline=is_deadline)

    def _enter(self, ticket: T, now: float) -> tuple[float, int, T]:
        """Let a ticket in; return its entry for a heap."""
        assert ticket.lane is None, "A ticket stands in one lane at a time. This is a bug."
        ticket.lane = self
        ticket.queued_s = now
        self._count(ticket, 1)
        return (ticket.due_s, ticket.order, ticket)

    def _count(self, ticket: T, change: int) -> None:
        self.num_waiting += change
        self.num_deadlines += change if ticket.deadline_s < inf else 0
        if self.stage is Stage.READ:
            ask = (ticket.priority, ticket.cap, ticket.floor)
            self.asks[ask] = self.asks.get(ask, 0) + change


def head_of(heap: Heap[T], lane: Lane[T]) -> T | None:
    """Return the first of a heap that still stands in its lane; what stands before it is dropped."""
    while heap and heap[0][2].lane is not lane:
        heapq.heappop(heap)
    return heap[0][2] if heap else None


def swept(heap: Heap[T], lane: Lane[T], num_alive: int) -> Heap[T]:
    """Return a heap without its dead entries, once they may be more than half of it."""
    if len(heap) <= _MIN_SWEEP or num_alive * 2 >= len(heap):
        return heap
    living = [entry for entry in heap if entry[2].lane is lane]
    heapq.heapify(living)
    return living


def num_before(heap: Heap[T], lane: Lane[T], due_s: float, *, is_deadline: bool) -> int:
    """Count a heap's living tickets that are due before a time, or of them those with a deadline."""
    places, num_found, num_looks = [0], 0, 0
    while places and num_looks < MAX_LOOKS:
        place = places.pop()
        if place < len(heap) and heap[place][0] < due_s:
            num_looks += 1
            ticket = heap[place][2]
            num_found += ticket.lane is lane and (not is_deadline or ticket.deadline_s < inf)
            places += (2 * place + 1, 2 * place + 2)
    return num_found
