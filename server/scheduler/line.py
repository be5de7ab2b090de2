"""One model's lanes on a device, and how its batches are formed: by cost, and in time for who is due first."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Generic

from server.records import BudgetReason, Priority
from server.scheduler.costs import KNEE_TOLERANCE, Costs, Place
from server.scheduler.lanes import Lane, Stage, T
from server.scheduler.shares import Fairness, open_lane

CROWD_DOUBLINGS = 5
"""How far ahead deadlines are looked at together: 2 ** (this - 1) times the slack of the tightest."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Tickets to run together; riders from smaller buckets come last.

    Units: device seconds. `predicted_s` is for this execution, `rest_s` for what its tickets need after it.
    """

    model: str
    stage: Stage
    bucket: int
    tickets: list[T]
    predicted_s: float
    rest_s: float


class Line(Generic[T]):
    """The lanes of one model.

    `ceiling` caps every sample whose reading has not begun, but for `floors`, the least cap by priority that load
    may impose. `used_s` is the device time that the model has had, for sharing with others.
    """

    def __init__(
        self,
        model: str,
        costs: Costs,
        floors: Mapping[Priority, int],
        num_instances: int,
        fairness: Fairness | None = None,
    ) -> None:
        self.model = model
        self.costs = costs
        self.ceiling = costs.capacity
        self.used_s = 0.0
        places: dict[Place, Lane[T]] = {
            place: open_lane(model, *place, costs.flops(*place), fairness) for place in costs.places
        }
        self.embed: Lane[T] = places[Stage.EMBED, 0]
        self.read: Lane[T] = places[Stage.READ, 0]
        self.trunks: list[Lane[T]] = [places[Stage.TRUNK, bucket] for bucket in reversed(costs.buckets)]
        self.lost: list[T] = []
        """Tickets that were found to be too late when their batch was formed; `Scheduler.expire` takes them away."""
        self.lanes = [*self.trunks, self.embed, self.read]
        self._num_instances = num_instances
        self._floors = dict.fromkeys(Priority, 0) | dict(floors)

    @property
    def num_waiting(self) -> int:
        return sum(lane.num_waiting for lane in self.lanes) + len(self.lost)

    def best_size(self, lane: Lane[T]) -> int:
        """Return the batch size at which a sample of a lane costs least."""
        return self.costs.splits(lane.stage, lane.bucket).best

    def fixed_s(self) -> float:
        """Predict the work of the samples whose tape is decided."""
        place_s = self.costs.place_s
        return sum(
            lane.num_waiting * place_s[lane.stage, lane.bucket]
            for lane in self.lanes
            if lane.num_waiting and lane is not self.read
        )

    def unread_s(self, ceiling: int, *, is_low_counted: bool = True) -> float:
        """Predict the work of the samples whose tape is not decided, were they capped at `ceiling`."""
        sample_s, floors = self.costs.sample_s, self._floors
        return sum(
            num_waiting * sample_s[min(cap, max(ceiling, floors[priority], floor))]
            for (priority, cap, floor), num_waiting in self.read.asks.items()
            if num_waiting and (is_low_counted or priority is not Priority.LOW)
        )

    def ahead_s(self, due_s: float, *, is_deadline: bool = False) -> float:
        """Predict the work that is due before a time, at the smallest budget, or of it what has a deadline."""
        num_unread = self.read.num_before(due_s, is_deadline=is_deadline)
        return self._due_s(due_s, is_deadline=is_deadline) + num_unread * self.costs.hurried_s(0)

    def form(self, lane: Lane[T], now: float) -> Batch[T] | None:
        """Take out a lane's head and its companions; None where the head went elsewhere: to a faster lane, or lost."""
        size = self._size(lane, now)
        if size == 0:
            self._give_up(lane)
            return None
        if lane is self.read:
            crowd_cap = self._crowd_cap(now)
            tickets = self._decide_caps(_take(lane, max(size, self._unread_size())), crowd_cap, now)
            return self._to_batch(lane, tickets) if tickets else None
        tickets = _take(lane, size)
        if lane.stage is Stage.TRUNK and lane.num_waiting == 0:
            self._add_riders(lane, tickets, now)
        return self._to_batch(lane, tickets)

    def _size(self, lane: Lane[T], now: float) -> int:
        """Return the cheapest size, or a smaller one if only that is in time for the head; 0 if none is.

        No batch is made smaller than its knee, where samples begin to cost much more: the others would pay for it.
        """
        splits = self.costs.splits(lane.stage, lane.bucket)
        size, head = splits.first(lane.num_waiting), lane.head()
        if head is None or head.deadline_s == inf:
            return size
        fits = self._fit(lane, head, min(head.cap, self.ceiling), size, now)
        if fits >= size:
            return size
        knee = splits.knee(size, KNEE_TOLERANCE)
        if fits < knee:
            fits = min(knee, self._fit(lane, head, 0, knee, now))
        return fits if fits >= knee else 0

    def _unread_size(self) -> int:
        """Return how many go over to the embed lane together where nothing is to be read; 0 where something may be.

        A batch of readers is far smaller: taken by its size they would run in many small executions instead.
        """
        head = self.read.head()
        is_read = (
            head is None or head.deadline_s < inf or max(self.ceiling, self._floors[head.priority], head.floor) > 0
        )
        if is_read:
            return 0
        num_waiting = self.embed.num_waiting
        return self.costs.splits(Stage.EMBED, 0).first(self.read.num_waiting + num_waiting) - num_waiting

    def _give_up(self, lane: Lane[T]) -> None:
        """Take out a head that is too late for its lane; not to read at all may still be in time."""
        ticket = lane.pop()
        assert ticket is not None, "Only a head can be too late. This is a bug."
        lane.refund(ticket)
        if lane is self.read:
            ticket.lower(0, BudgetReason.DEADLINE)
            self.embed.push(ticket, ticket.queued_s)
        else:
            self.lost.append(ticket)

    def _fit(self, lane: Lane[T], head: T, cap: int, size: int, now: float) -> int:
        """Return the largest batch in which a head makes its deadline under a cap."""
        slack_s = self.costs.usable_s(head.deadline_s - now)
        rest_s = 0.0 if lane.stage is Stage.TRUNK else self.costs.trunk_s(cap, min(size, lane.num_deadlines))
        return self.costs.latency.fit(lane.stage, lane.bucket, slack_s - rest_s, size)

    def _crowd_cap(self, now: float) -> int:
        """Return the largest cap at which all that is due soon can be done by then, if the head has a deadline.

        Without it the first would spend the time of those behind them, who then could not be served at all.
        """
        head, cap = self.read.head(), self.costs.capacity
        if head is None or head.deadline_s == inf:
            return cap
        all_s = self.fixed_s() + self.read.num_waiting * self.costs.hurried_s(cap)
        for doubling in range(CROWD_DOUBLINGS):
            horizon_s = self.costs.usable_s(head.deadline_s - now) * 2**doubling
            room_s = horizon_s * self._num_instances
            if all_s <= room_s:
                break
            num_unread = self.read.num_before(now + horizon_s)
            if num_unread > 1:
                room_s -= self._due_s(now + horizon_s)
                fitting = (c for c in reversed(self.costs.buckets) if num_unread * self.costs.hurried_s(c) <= room_s)
                cap = min(cap, next(fitting, 0))
        return cap

    def _due_s(self, due_s: float, *, is_deadline: bool = False) -> float:
        """Predict the work due before a time of samples whose tape is decided."""
        total_s = 0.0
        for lane in self.lanes:
            if lane.num_waiting and lane is not self.read:
                unit_s = self.costs.place_s[lane.stage, lane.bucket]
                total_s += unit_s * lane.num_before(due_s, is_deadline=is_deadline)
        return total_s

    def _decide_caps(self, tickets: list[T], crowd_cap: int, now: float) -> list[T]:
        """Bind the caps of samples about to be read; those that end at 0 need no reading and change lanes.

        With the head gone to the embed lane that lane comes first, and the others go back.
        """
        read_s = self.costs.predict_s(Stage.READ, 0, len(tickets))
        num_deadlines = sum(ticket.deadline_s < inf for ticket in tickets)
        for ticket in tickets:
            ticket.lower(max(self.ceiling, self._floors[ticket.priority], ticket.floor), BudgetReason.DEGRADED)
            if ticket.deadline_s < inf:
                slack_s = self.costs.usable_s(ticket.deadline_s - now) - read_s
                ticket.lower(crowd_cap, BudgetReason.DEADLINE)
                ticket.lower(self.costs.cap_within(slack_s, ticket.cap, num_deadlines), BudgetReason.DEADLINE)
        is_head_read = tickets[0].cap > 0
        for ticket in tickets:
            if ticket.cap == 0 or not is_head_read:
                self.read.refund(ticket)
            if ticket.cap == 0:
                self.embed.push(ticket, ticket.queued_s)
            elif not is_head_read:
                self.read.push(ticket, ticket.queued_s)
        return [ticket for ticket in tickets if ticket.cap > 0] if is_head_read else []

    def _add_riders(self, lane: Lane[T], tickets: list[T], now: float) -> None:
        """Fill a trunk batch from smaller buckets, nearest first, where that costs less device time than waiting."""
        limit, head = self.costs.splits(lane.stage, lane.bucket).limit, tickets[0]
        if head.deadline_s < inf:
            limit = min(limit, self._fit(lane, head, 0, limit, now))
        for smaller in self.trunks:
            room = min(limit - len(tickets), smaller.num_waiting)
            if smaller.bucket < lane.bucket and room > 0 and self._is_riding_cheaper(lane, len(tickets), smaller, room):
                tickets += _take(smaller, room)

    def _is_riding_cheaper(self, lane: Lane[T], num_seated: int, smaller: Lane[T], num_riders: int) -> bool:
        """Compare what riders add to an execution with their share of their own, as full as it could get by then."""
        predict_s = self.costs.predict_s
        added_s = predict_s(Stage.TRUNK, lane.bucket, num_seated + num_riders)
        added_s -= predict_s(Stage.TRUNK, lane.bucket, num_seated)
        limit = self.costs.splits(Stage.TRUNK, smaller.bucket).limit
        later = min(limit, smaller.num_waiting + self.read.num_waiting)
        return added_s < num_riders * predict_s(Stage.TRUNK, smaller.bucket, later) / later

    def _to_batch(self, lane: Lane[T], tickets: list[T]) -> Batch[T]:
        costs, num_tickets = self.costs, len(tickets)
        rest_s = 0.0
        if lane.stage is Stage.EMBED:
            rest_s = num_tickets * costs.share_s[Stage.TRUNK, 0]
        elif lane.stage is Stage.READ:
            rest_s = sum(costs.sample_s[ticket.cap] for ticket in tickets) - num_tickets * costs.share_s[Stage.READ, 0]
        predicted_s = costs.predict_s(lane.stage, lane.bucket, num_tickets)
        return Batch(self.model, lane.stage, lane.bucket, tickets, predicted_s, rest_s)


def _take(lane: Lane[T], count: int) -> list[T]:
    """Take out up to `count` tickets of a lane, those due first."""
    tickets: list[T] = []
    while len(tickets) < count and (ticket := lane.pop()) is not None:
        tickets.append(ticket)
    return tickets
