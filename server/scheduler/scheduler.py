"""Two stages, one lane for each stage and bucket of each model, and the rule that picks the next execution.

    push ──> embed | read lane ──> next_batch ──> (the engine runs it) ──> push ──> trunk lane ──> next_batch

Where tenants share the device, the one that has had the fewest FLOPs for its weight goes first (`shares`). Then the
model that has had the least device time goes first, and of its lanes the one with the earliest due; then the
batch is filled to the size that is cheapest for what waits (`Line.form`). A lane is ready when it is full or its head
has waited the queue delay. Deciding costs O(lanes + batch * log n) for n waiting tickets.

Nothing here reads a clock, so a simulator can drive it with a clock of its own.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Generic

from server.records import Priority
from server.scheduler.alarms import Alarms
from server.scheduler.costs import Costs
from server.scheduler.lanes import Lane, Stage, T
from server.scheduler.line import Batch, Line
from server.scheduler.shares import Fairness


class Scheduler(Generic[T]):
    """The lines of one device, for any number of models.

    Every ticket pushed leaves exactly once: in a batch, by `cancel` or by `expire`.
    """

    def __init__(
        self,
        queue_delay_s: float = 0.0,
        floors: Mapping[Priority, int] | None = None,
        num_instances: int = 1,
        fairness: Fairness | None = None,
    ) -> None:
        """With `fairness`, tenants share the device by the weights of the shares that their tickets name."""
        self._queue_delay_s = queue_delay_s
        self._floors = floors or {}
        self._num_instances = num_instances
        self._fairness = fairness
        self._lines: dict[str, Line[T]] = {}
        self._places: dict[tuple[str, Stage, int], tuple[Line[T], Lane[T]]] = {}
        self._alarms: Alarms[T] = Alarms()
        self._virtual_s = 0.0
        """The device time that a model had had when its latest batch was chosen; who was idle starts from here."""

    def add_model(self, model: str, costs: Costs) -> None:
        """Open the lanes of a model under a name of the caller's choice."""
        line: Line[T] = Line(model, costs, self._floors, self._num_instances, self._fairness)
        self._lines[model] = line
        self._places |= {(model, lane.stage, lane.bucket): (line, lane) for lane in line.lanes}

    def remove_model(self, model: str) -> None:
        """Close the lanes of a model; none of its tickets may be in line."""
        line = self._lines.pop(model)
        assert line.num_waiting == 0, "Tickets would be lost. This is a bug."
        for lane in line.lanes:
            del self._places[model, lane.stage, lane.bucket]

    @property
    def num_waiting(self) -> int:
        return sum(line.num_waiting for line in self._lines.values())

    def num_in_lane(self, model: str, stage: Stage, bucket: int) -> int:
        """Return the tickets that wait for a stage."""
        return self._places[model, stage, bucket][1].num_waiting

    @property
    def work_s(self) -> float:
        """Predict the seconds that one instance needs for all that waits, under the present ceilings."""
        return sum(line.fixed_s() + line.unread_s(line.ceiling) for line in self._lines.values())

    def work_by_cap_s(self, model: str, caps: Sequence[int]) -> list[float]:
        """Predict the seconds for all that waits, were a model's unread samples capped at each of `caps`.

        Its unread samples of low priority are left out: others overtake them.
        """
        mine = self._lines[model]
        others = [line for line in self._lines.values() if line is not mine]
        fixed_s = mine.fixed_s() + sum(line.fixed_s() + line.unread_s(line.ceiling) for line in others)
        return [fixed_s + mine.unread_s(cap, is_low_counted=False) for cap in caps]

    def ahead_s(self, due_s: float, *, is_deadline: bool = False) -> float:
        """Predict the seconds for what is due before a time, or of it what has a deadline, at the smallest budget."""
        return sum(line.ahead_s(due_s, is_deadline=is_deadline) for line in self._lines.values())

    def set_ceiling(self, model: str, cap: int) -> None:
        """Cap what a model reads from now on, those that wait included."""
        self._lines[model].ceiling = cap

    def ceiling(self, model: str) -> int:
        return self._lines[model].ceiling

    def num_unread(self, model: str) -> int:
        """Count a model's samples whose cap may still change."""
        return self._lines[model].read.num_waiting

    def push(self, model: str, stage: Stage, bucket: int, ticket: T, now: float) -> None:
        """Put a ticket in line for a stage; its deadline holds until it leaves for good."""
        line, lane = self._places[model, stage, bucket]
        if len(self._lines) > 1 and lane.num_waiting == 0 and line.num_waiting == 0:
            line.used_s = max(line.used_s, self._virtual_s)
        lane.push(ticket, now)
        if ticket.deadline_s < inf:
            ticket.latest_s = ticket.deadline_s - line.costs.least_s[stage, bucket]
            self._alarms.watch(ticket)

    def cancel(self, ticket: T) -> None:
        """Take a ticket out of line, wherever it stands; one that is not in line is left alone."""
        if ticket.lane is not None:
            ticket.lane.leave(ticket)

    def expire(self, now: float) -> list[T]:
        """Take out and return the tickets that can no longer make their deadline, however little they read."""
        expired = [ticket for line in self._lines.values() for ticket in line.lost]
        for line in self._lines.values():
            line.lost.clear()
        for ticket in self._alarms.take_due(now):
            assert ticket.lane is not None, "Only those in line are due. This is a bug."
            ticket.lane.leave(ticket)
            expired.append(ticket)
        return expired

    def next_batch(self, now: float) -> Batch[T] | None:
        """Take out the tickets to run next together, or return None where none is ready.

        Call `expire` before it, for deadlines that cannot be made any more, and after it, for those of whom it found
        this out.
        """
        while (chosen := self._choose(now)) is not None:
            line, lane = chosen
            if self._fairness is not None:
                self._note_chosen(self._fairness, lane)
            batch = line.form(lane, now)
            if batch is not None:
                self._virtual_s = line.used_s
                line.used_s += batch.predicted_s
                return batch
        return None

    def wake_at(self, now: float) -> float | None:
        """Return the next time at which a deadline comes or a lane's delay ends by itself; None if never."""
        first_s = self._alarms.next_s()
        times = [] if first_s is None else [first_s]
        if self._queue_delay_s > 0:
            places = self._places.values()
            times += [self._ready_at(line, lane, head) for line, lane in places if (head := lane.head()) is not None]
        return min((time for time in times if time > now), default=None)

    def _choose(self, now: float) -> tuple[Line[T], Lane[T]] | None:
        chosen: tuple[Line[T], Lane[T]] | None = None
        first = (inf, 0.0, 0.0, 0)
        for line in self._lines.values():
            for lane in line.lanes:
                head = lane.head()
                if head is not None:
                    had_flops = 0.0 if head.share is None else head.share.virtual_flops
                    rank = (had_flops, line.used_s, head.due_s, head.order)
                    if rank < first and self._ready_at(line, lane, head) <= now:
                        chosen, first = (line, lane), rank
        return chosen

    def _note_chosen(self, fairness: Fairness, lane: Lane[T]) -> None:
        head = lane.head()
        if head is not None and head.share is not None:
            fairness.chosen(head.share)

    def _ready_at(self, line: Line[T], lane: Lane[T], head: T) -> float:
        if self._queue_delay_s == 0 or lane.num_waiting >= line.best_size(lane):
            return -inf
        return head.queued_s + self._queue_delay_s
