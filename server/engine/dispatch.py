"""Gives waiting batches to idle instances, and executions back to the engine."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from server.engine.execution import Execution
from server.engine.families import Family
from server.engine.instances import Instances
from server.engine.jobs import Entry, EntryBatch
from server.engine.watchdog import Watchdog
from server.scheduler import Scheduler, Stage


class _Run(NamedTuple):
    """Of an execution handed out: when it could have begun, and when it should be done."""

    since_s: float
    until_s: float


class Dispatcher:
    """The scheduler with hands: instances, a timer, and one decision for all that one turn of the event loop brings."""

    _on_done: Callable[[Execution], None]
    _on_expired: Callable[[Entry], None]

    def __init__(
        self,
        instances: Instances,
        scheduler: Scheduler[Entry],
        clock: Callable[[], float],
        watchdog: Watchdog,
    ) -> None:
        self._instances = instances
        self._watchdog = watchdog
        watchdog.connect(give_up=self._give_up, is_waiting=lambda: self._scheduler.num_waiting > 0)
        self._scheduler = scheduler
        self._clock = clock
        self._families: dict[str, Family] = {}
        self._running: dict[Execution, _Run] = {}
        self._idlers: dict[Execution, Callable[[Execution], None]] = {}
        """Of the running, those that nobody waits for, with who takes them back."""
        self._newcomer_s: dict[tuple[str, int], float] = {}
        """What `newcomer_s` said in this turn, by family and cap."""
        self._is_stopped = False
        self._is_turn_due = False
        self._due_since_s = self._freed_s = float("-inf")
        """When the present turn was asked for, and when an instance was last freed: the later of the two is when what
        this turn hands out could have begun."""
        self._timer: asyncio.TimerHandle | None = None

    def connect(self, *, on_done: Callable[[Execution], None], on_expired: Callable[[Entry], None]) -> None:
        """Name who takes each execution back, and each entry that cannot make its deadline any more."""
        self._on_done, self._on_expired = on_done, on_expired

    @property
    def num_instances(self) -> int:
        return self._instances.size

    @property
    def num_running(self) -> int:
        """Return the executions that are handed out."""
        return len(self._running)

    def num_waiting(self, family: Family, stage: Stage, bucket: int) -> int:
        """Return the samples of a family in line for a stage."""
        return self._scheduler.num_in_lane(family.key, stage, bucket)

    def add_family(self, family: Family) -> None:
        """Open a family's lanes."""
        self._families[family.key] = family
        self._scheduler.add_model(family.key, family.costs)

    def remove_family(self, family: Family) -> None:
        """Close a family's lanes; nothing of it may be in line any more."""
        del self._families[family.key]
        self._scheduler.remove_model(family.key)

    def push(self, entry: Entry, stage: Stage, bucket: int, now: float) -> None:
        """Put an entry in line; it is considered once all that this turn of the event loop brings is in line too."""
        family = entry.job.family
        self._scheduler.push(family.key, stage, bucket, entry, now)
        for other, cap in self._newcomer_s:
            added_s = family.costs.sample_s[cap if other == family.key else -1] / self._instances.size
            self._newcomer_s[other, cap] += added_s
        self._request_turn()

    def cancel(self, entry: Entry) -> None:
        """Take an entry out of line, wherever it stands."""
        self._scheduler.cancel(entry)

    def backlog_s(self, now: float) -> float:
        """Predict when all that is admitted will have run."""
        return (self._running_s(now) + self._scheduler.work_s) / self._instances.size

    def answer_s(self, family: Family, caps: Sequence[int], now: float) -> list[float]:
        """Predict when a newcomer would be answered, were a family's unread samples capped at each of `caps`."""
        running_s, size, alone_s = self._running_s(now), self._instances.size, family.costs.alone_s
        works_s = self._scheduler.work_by_cap_s(family.key, caps)
        return [(running_s + work_s) / size + alone_s(cap) for work_s, cap in zip(works_s, caps, strict=True)]

    def newcomer_s(self, family: Family, cap: int, now: float) -> float:
        """Return `answer_s` for one cap as it was when first asked in this turn, with what has arrived since.

        Looking at every lane for each of the requests that one turn brings would cost more than some of them do.
        """
        key = (family.key, cap)
        if key not in self._newcomer_s:
            self._newcomer_s[key] = self.answer_s(family, [cap], now)[0]
        return self._newcomer_s[key]

    def wait_s(self, due_s: float, now: float, *, is_deadline: bool = False) -> float:
        """Predict when what is due before a time, or of it what has a deadline, has run at the smallest budget."""
        is_busy = len(self._running) >= self._instances.size
        free_s = min(self._left_s(execution, now) for execution in self._running) if is_busy else 0.0
        rest_s = sum(each.batch.rest_s for each in self._running if each.batch.tickets[0].due_s < due_s)
        ahead_s = self._scheduler.ahead_s(due_s, is_deadline=is_deadline)
        return free_s + (rest_s + ahead_s) / self._instances.size

    @property
    def worst_sample_s(self) -> float:
        """Return the most that a sample of any family adds to what is pending: at full tape, by itself."""
        worst_s = max((family.costs.worst_s for family in self._families.values()), default=0.0)
        return worst_s / self._instances.size

    @property
    def is_idle(self) -> bool:
        """Say whether nothing runs and nothing waits."""
        return not self._running and self._scheduler.num_waiting == 0 and not self._is_stopped

    def run_idle(self, batch: EntryBatch, family: Family, on_done: Callable[[Execution], None]) -> None:
        """Run a batch that nobody waits for, past the line; the device must be idle."""
        execution = Execution(batch, family, self._clock)
        self._idlers[execution] = on_done
        self._submit(execution)

    @property
    def is_stuck(self) -> bool:
        """Say whether nothing that waits can be expected to run any more."""
        return self._watchdog.is_stuck

    def failed(self, execution: Execution, fault: str) -> None:
        """Note what kind of fault an execution met with."""
        self._watchdog.failed(execution, fault)

    def start(self) -> None:
        self._instances.start()

    def stop(self) -> None:
        self._is_stopped = True
        self._watchdog.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._instances.stop()

    def _request_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            self._due_since_s = self._clock()
            asyncio.get_running_loop().call_soon(self._take_turn)
            self._watchdog.wake()

    def _take_turn(self) -> None:
        self._is_turn_due = False
        self._newcomer_s.clear()
        now = self._clock()
        self._expire(now)
        if len(self._running) < self._instances.size:
            self._steer(now)
        while len(self._running) < self._instances.size and (batch := self._scheduler.next_batch(now)) is not None:
            self._submit(Execution(batch, self._families[batch.model], self._clock))
        self._expire(now)
        self._set_timer(now)
        if not self._running:
            self._offer_idle()

    def _submit(self, execution: Execution) -> None:
        self._running[execution] = _Run(
            max(self._due_since_s, self._freed_s), self._clock() + execution.batch.predicted_s
        )
        self._watchdog.started(execution)
        self._instances.submit(execution, self._finish)

    def _offer_idle(self) -> None:
        """Let the guards use a device that nobody else wants."""
        for family in self._families.values():
            if family.guard is not None:
                family.guard.idle()

    def _expire(self, now: float) -> None:
        for entry in self._scheduler.expire(now):
            self._on_expired(entry)

    def _steer(self, now: float) -> None:
        """Let each family's policy decide before a batch of its is formed."""
        for family in self._families.values():
            pilot = family.pilot
            if pilot is not None and self._scheduler.num_unread(family.key) > 0:
                if family.guard is not None:
                    pilot.hold_back(family.guard.least_cap(pilot.caps))
                pilot.steer(now, self.answer_s(family, pilot.caps, now), self._instances.size)
                self._scheduler.set_ceiling(family.key, pilot.ceiling)

    def _running_s(self, now: float) -> float:
        return sum(self._left_s(execution, now) + execution.batch.rest_s for execution in self._running)

    def _left_s(self, execution: Execution, now: float) -> float:
        return max(0.0, self._running[execution].until_s - now)

    def _finish(self, execution: Execution) -> None:
        self._freed_s = self._clock()
        execution.taken_s = self._freed_s - self._running.pop(execution).since_s
        self._newcomer_s.clear()
        self._watchdog.ended(execution)
        self._idlers.pop(execution, self._on_done)(execution)
        self._request_turn()

    def _give_up(self, execution: Execution) -> None:
        """Take back an execution that does not end, and let a new instance run what waits."""
        self._instances.replace()
        self._finish(execution)

    def _set_timer(self, now: float) -> None:
        """Come back by ourselves where a deadline or a queue delay ends before anything else happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._scheduler.wake_at(now)
        if wake_at is not None:
            self._timer = asyncio.get_running_loop().call_later(wake_at - now, self._request_turn)
