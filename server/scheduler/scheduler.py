"""Two stages, one lane for each stage and bucket of each model, and the rule that picks the next execution.

    push ──> embed | read lane ──> next_batch ──> (the engine runs it) ──> push ──> trunk lane ──> next_batch

Earliest due first among the lanes that are ready, then filled to the batch size from the same lane, then, where it
is cheaper than waiting, from the lanes of smaller buckets. A lane is ready when it is full or its head has waited
the queue delay. Deciding costs O(lanes + batch * log n) for n waiting tickets.

Nothing here reads a clock.
"""

import heapq
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Generic

from server.manifest import Manifest
from server.scheduler.lanes import Lane, Stage, T
from server.scheduler.latency import LatencyModel

_MIN_SWEEP = 64


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Tickets to run together; riders from smaller buckets come last."""

    model: str
    stage: Stage
    bucket: int
    tickets: list[T]


@dataclass(slots=True)
class _Family(Generic[T]):
    """One model's lanes and predictions; `trunks` by falling bucket."""

    latency: LatencyModel
    embed: Lane[T]
    read: Lane[T]
    trunks: list[Lane[T]]
    typical_bucket: int

    def lanes(self) -> list[Lane[T]]:
        return [*self.trunks, self.embed, self.read]

    def work_s(self) -> float:
        """Predict the seconds to run all that waits here, in full batches, to the end."""
        rest_s = self._share_s(Stage.TRUNK, self.typical_bucket, self.read.limit)
        zero_s = self._share_s(Stage.TRUNK, 0, self.embed.limit)
        total_s = self.embed.num_waiting * (self._share_s(Stage.EMBED, 0, self.embed.limit) + zero_s)
        total_s += self.read.num_waiting * (self._share_s(Stage.READ, 0, self.read.limit) + rest_s)
        return total_s + sum(
            lane.num_waiting * self._share_s(Stage.TRUNK, lane.bucket, lane.limit) for lane in self.trunks
        )

    def _share_s(self, stage: Stage, bucket: int, batch: int) -> float:
        return self.latency.predict_s(stage, bucket, batch) / batch


class Scheduler(Generic[T]):
    """The lines of one device, for any number of models.

    Every ticket pushed leaves exactly once: in a batch, by `cancel` or by `expire`.
    """

    def __init__(self, queue_delay_s: float = 0.0) -> None:
        self._queue_delay_s = queue_delay_s
        self._families: dict[str, _Family[T]] = {}
        self._lanes: list[Lane[T]] = []
        self._by_place: dict[tuple[str, Stage, int], Lane[T]] = {}
        self._deadlines: list[tuple[float, int, T]] = []
        self._num_pushes = count()
        self._sweep_above = _MIN_SWEEP

    def add_model(self, model: str, manifest: Manifest, latency: LatencyModel, max_batch_size: int) -> None:
        """Open the lanes of a model under a name of the caller's choice."""

        def lane(stage: Stage, bucket: int) -> Lane[T]:
            return Lane(model, stage, bucket, max_batch_size)

        self._families[model] = _Family(
            latency=latency,
            embed=lane(Stage.EMBED, 0),
            read=lane(Stage.READ, 0),
            trunks=[lane(Stage.TRUNK, bucket) for bucket in reversed(manifest.buckets)],
            typical_bucket=manifest.bucket_for(round(max(point.mean_tape_length for point in manifest.quality.points))),
        )
        self._lanes += self._families[model].lanes()
        self._index_lanes()

    def remove_model(self, model: str) -> None:
        """Close the lanes of a model; none of its tickets may be in line."""
        assert not any(lane.num_waiting for lane in self._families[model].lanes()), "Tickets would be lost. A bug."
        del self._families[model]
        self._lanes = [lane for lane in self._lanes if lane.model != model]
        self._index_lanes()

    @property
    def num_waiting(self) -> int:
        return sum(lane.num_waiting for lane in self._lanes)

    @property
    def work_s(self) -> float:
        """Predict the seconds that one instance needs for all that waits."""
        return sum(family.work_s() for family in self._families.values())

    def push(self, model: str, stage: Stage, bucket: int, ticket: T, now: float) -> None:
        """Put a ticket in line for a stage; its deadline holds until it leaves for good."""
        self._by_place[model, stage, bucket].push(ticket, now)
        if ticket.deadline_s < inf:
            heapq.heappush(self._deadlines, (ticket.deadline_s, next(self._num_pushes), ticket))
            self._sweep_deadlines()

    def cancel(self, ticket: T) -> None:
        """Take a ticket out of line, wherever it stands; one that is not in line is left alone."""
        if ticket.lane is not None:
            ticket.lane.leave(ticket)

    def expire(self, now: float) -> list[T]:
        """Take out and return the tickets whose deadline has come."""
        expired: list[T] = []
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].lane is None):
            ticket = heapq.heappop(self._deadlines)[2]
            if ticket.lane is not None and ticket.deadline_s <= now:
                ticket.lane.leave(ticket)
                expired.append(ticket)
        return expired

    def next_batch(self, now: float) -> Batch[T] | None:
        """Take out the tickets to run next together, or return None where none is ready.

        Call `expire` first: this does not look at deadlines.
        """
        chosen: Lane[T] | None = None
        earliest = (inf, 0)
        for lane in self._lanes:
            head = lane.head()
            if head is not None and (head.due_s, head.order) < earliest and self._ready_at(lane, head) <= now:
                chosen, earliest = lane, (head.due_s, head.order)
        if chosen is None:
            return None
        tickets = chosen.pop(chosen.limit)
        if chosen.stage is Stage.TRUNK and len(tickets) < chosen.limit:
            self._add_riders(chosen, tickets)
        return Batch(chosen.model, chosen.stage, chosen.bucket, tickets)

    def wake_at(self, now: float) -> float | None:
        """Return the next time at which a deadline comes or a lane's delay ends by itself; None if never."""
        times = [deadline for deadline, _, _ in self._deadlines[:1]]
        if self._queue_delay_s > 0:
            times += [self._ready_at(lane, head) for lane in self._lanes if (head := lane.head()) is not None]
        return min((time for time in times if time > now), default=None)

    def _index_lanes(self) -> None:
        self._by_place = {(lane.model, lane.stage, lane.bucket): lane for lane in self._lanes}

    def _ready_at(self, lane: Lane[T], head: T) -> float:
        is_full = lane.num_waiting >= lane.limit
        return -inf if is_full or self._queue_delay_s == 0 else head.queued_s + self._queue_delay_s

    def _sweep_deadlines(self) -> None:
        """Forget the deadlines of tickets that have left, when they may be half of all: amortised O(1)."""
        if len(self._deadlines) > self._sweep_above:
            self._deadlines = [entry for entry in self._deadlines if entry[2].lane is not None]
            heapq.heapify(self._deadlines)
            self._sweep_above = max(2 * len(self._deadlines), _MIN_SWEEP)

    def _add_riders(self, lane: Lane[T], tickets: list[T]) -> None:
        """Fill a trunk batch from smaller buckets, nearest first, where that costs less device time than waiting."""
        family = self._families[lane.model]
        upstream = family.read.num_waiting
        for smaller in family.trunks:
            room = min(lane.limit - len(tickets), smaller.num_waiting)
            if smaller.bucket >= lane.bucket or room <= 0:
                continue
            if _is_riding_cheaper(family.latency, lane.bucket, len(tickets), smaller, room, upstream):
                tickets += smaller.pop(room)


def _is_riding_cheaper(
    latency: LatencyModel, bucket: int, num_seated: int, smaller: Lane[T], num_riders: int, upstream: int
) -> bool:
    """Compare what riders add to this execution with their share of their own, as full as it could get by then."""
    added_s = latency.predict_s(Stage.TRUNK, bucket, num_seated + num_riders)
    added_s -= latency.predict_s(Stage.TRUNK, bucket, num_seated)
    later = min(smaller.limit, smaller.num_waiting + upstream)
    share_s = latency.predict_s(Stage.TRUNK, smaller.bucket, later) / later
    return added_s < num_riders * share_s
