"""Gives waiting batches to idle instances, and executions back to the engine."""

import asyncio
from collections.abc import Callable

from server.engine.execution import Execution
from server.engine.families import Family
from server.engine.instances import Instances
from server.engine.jobs import Entry
from server.scheduler import Scheduler, Stage


class Dispatcher:
    """The scheduler with hands: instances, a timer, and one decision for all that one turn of the event loop brings.

    `on_done` takes each execution back and `on_expired` each entry whose deadline came while it waited.
    """

    def __init__(
        self,
        instances: Instances,
        scheduler: Scheduler[Entry],
        clock: Callable[[], float],
        *,
        on_done: Callable[[Execution], None],
        on_expired: Callable[[Entry], None],
    ) -> None:
        self._instances = instances
        self._scheduler = scheduler
        self._clock = clock
        self._on_done = on_done
        self._on_expired = on_expired
        self._families: dict[str, Family] = {}
        self._num_idle = instances.size
        self._is_turn_due = False
        self._timer: asyncio.TimerHandle | None = None

    def add_family(self, family: Family, max_batch_size: int) -> None:
        """Open a family's lanes."""
        self._families[family.key] = family
        self._scheduler.add_model(family.key, family.manifest, family.latency, max_batch_size)

    def remove_family(self, family: Family) -> None:
        """Close a family's lanes; nothing of it may be in line any more."""
        del self._families[family.key]
        self._scheduler.remove_model(family.key)

    def push(self, entry: Entry, stage: Stage, bucket: int, now: float) -> None:
        """Put an entry in line; it is considered once all that this turn of the event loop brings is in line too."""
        self._scheduler.push(entry.job.family.key, stage, bucket, entry, now)
        self._request_turn()

    def cancel(self, entry: Entry) -> None:
        """Take an entry out of line, wherever it stands."""
        self._scheduler.cancel(entry)

    def wait_s(self) -> float:
        """Predict how long the work that waits will take."""
        return self._scheduler.work_s / self._instances.size

    def start(self) -> None:
        self._instances.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._instances.stop()

    def _request_turn(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_turn_due = False
        now = self._clock()
        for entry in self._scheduler.expire(now):
            self._on_expired(entry)
        while self._num_idle > 0 and (batch := self._scheduler.next_batch(now)) is not None:
            self._num_idle -= 1
            self._instances.submit(Execution(batch, self._families[batch.model], self._clock), self._finish)
        self._set_timer(now)

    def _finish(self, execution: Execution) -> None:
        self._num_idle += 1
        self._on_done(execution)
        self._request_turn()

    def _set_timer(self, now: float) -> None:
        """Come back by ourselves where a deadline or a queue delay ends before anything else happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wake_at = self._scheduler.wake_at(now)
        if wake_at is not None:
            self._timer = asyncio.get_running_loop().call_later(wake_at - now, self._request_turn)
