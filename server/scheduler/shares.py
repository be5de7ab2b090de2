"""Fair sharing of a device between tenants, in FLOPs: start-time fair queueing over the lanes of a scheduler.

    Share.virtual_flops   FLOPs that a tenant's samples have had, divided by its weight
    next execution        from a lane where the tenant waits that has had the least so; it is filled in the same order
    who was idle          starts from where the others are: it neither saves up nor owes

So while several tenants wait, each gets FLOPs in proportion to its weight, to within one execution and one sample,
however much any of them sends. Within a tenant the order stays that of due times. One tenant alone gets everything.
"""

import heapq
from dataclasses import dataclass, field

from server.scheduler.lanes import Heap, Lane, Stage, T, head_of, num_before, swept


@dataclass(slots=True, eq=False)
class Share:
    """One tenant's part in the device; `weight` may change at any time."""

    weight: float = 1.0
    virtual_flops: float = 0.0
    num_waiting: int = 0


@dataclass(slots=True, eq=False)
class Fairness:
    """What the shares of one scheduler have in common: how far whoever was chosen last had come."""

    virtual_flops: float = 0.0
    nobody: Share = field(default_factory=Share)
    """The share of tickets that name none."""

    def chosen(self, share: Share) -> None:
        """Note whose ticket leads the next execution."""
        self.virtual_flops = max(self.virtual_flops, share.virtual_flops)

    def join(self, share: Share) -> None:
        """Let a share that was idle start from where the others are."""
        if share.num_waiting == 0:
            share.virtual_flops = max(share.virtual_flops, self.virtual_flops)


@dataclass(eq=False)
class FairLane(Lane[T]):
    """A lane whose head is the earliest due of the share that has had the least. Costs O(shares that wait) a look.

    Units: `flops` is what one ticket's execution here costs.
    """

    flops: float = 0.0
    fairness: Fairness = field(default_factory=Fairness)
    _heaps: dict[Share, Heap[T]] = field(default_factory=dict)
    _alive: dict[Share, int] = field(default_factory=dict)

    def push(self, ticket: T, now: float) -> None:
        if ticket.share is None:
            ticket.share = self.fairness.nobody
        self.fairness.join(ticket.share)
        heapq.heappush(self._heaps.setdefault(ticket.share, []), self._enter(ticket, now))

    def leave(self, ticket: T) -> None:
        share = self._share_of(ticket)
        ticket.lane = None
        self._count(ticket, -1)
        if share in self._heaps:
            self._heaps[share] = swept(self._heaps[share], self, self._alive[share])

    def head(self) -> T | None:
        share = self._fairest()
        return None if share is None else self._heaps[share][0][2]

    def pop(self) -> T | None:
        """Take out the head, and charge its share."""
        share = self._fairest()
        if share is None:
            return None
        ticket = heapq.heappop(self._heaps[share])[2]
        ticket.lane = None
        self._count(ticket, -1)
        share.virtual_flops += self.flops / share.weight
        return ticket

    def refund(self, ticket: T) -> None:
        """Take a charge back: a ticket that was taken out did not run here."""
        share = self._share_of(ticket)
        share.virtual_flops -= self.flops / share.weight

    def num_before(self, due_s: float, *, is_deadline: bool = False) -> int:
        return sum(num_before(heap, self, due_s, is_deadline=is_deadline) for heap in self._heaps.values())

    def _fairest(self) -> Share | None:
        """Return the share whose turn it is; equal ones in the order in which their heads are due."""
        fairest: Share | None = None
        first = (0.0, 0.0, 0)
        for share in list(self._heaps):
            heap = self._heaps[share]
            if head_of(heap, self) is None:
                del self._heaps[share]
                continue
            rank = (share.virtual_flops, *heap[0][:2])
            if fairest is None or rank < first:
                fairest, first = share, rank
        return fairest

    def _count(self, ticket: T, change: int) -> None:
        super()._count(ticket, change)
        share = self._share_of(ticket)
        share.num_waiting += change
        self._alive[share] = self._alive.get(share, 0) + change

    def _share_of(self, ticket: T) -> Share:
        assert ticket.share is not None, "A ticket in a fair lane has a share. This is a bug."
        return ticket.share


def part_ahead(num_own: int, num_all: int, weight: float, weights: float) -> float:
    """Return which part of what is pending goes before the last of a tenant's samples, were all alike.

    While its own are served the others get FLOPs by their weights: `weights` is the sum over all that have some
    pending, its own `weight` among them; `num_own` and `num_all` count the samples that are about to come in too.
    """
    return min(1.0, num_own / num_all * weights / weight)


def open_lane(model: str, stage: Stage, bucket: int, flops: float, fairness: Fairness | None) -> Lane[T]:
    """Return a lane, one that shares fairly where that is wanted."""
    if fairness is None:
        return Lane(model, stage, bucket)
    return FairLane(model, stage, bucket, flops=flops, fairness=fairness)
