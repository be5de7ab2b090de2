"""Notices executions that never end, counts how long faults last, and knows whether the engine is stuck for good.

    running ── too long ──> given up: its requests fail, its instance is replaced
    fault ── the next execution of the same stage that ends well ──> recovered

Too long is far beyond what was predicted, so that what is merely slow goes on; after a hang there is less patience
with the stage until it has shown that it is well. Time is counted in ticks of its own timer: what passes while the
whole process is stopped is nobody's fault.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from server.backends.base import COLD_EXECUTION_S
from server.engine.execution import Execution
from server.engine.jobs import names_of
from server.errors import BackendFailed
from server.metrics import Metrics

_log = logging.getLogger("adatape.engine")

HANG = "hang"
"""The cause of what was given up."""
TICK_S = 0.1
HANG_TIMES = 20.0
"""How many times its predicted time an execution may take, whatever the limit: predictions follow a slow device."""
DOUBT_S = 0.5
"""The limit while a stage hangs: that it does has taken long enough to find out."""
MAX_HANGS = 3
"""Executions of one stage given up with none ending well in between, after which only a new process can help."""
MAX_STALL_S = 10.0
"""How long work may wait with nothing running; more is a fault of ours, and a new process helps."""


class Watchdog:
    """Watches the executions of one dispatcher, on its event loop.

    Units: seconds; `limit_s` is how long a backend may take for an execution at least, `grace_s` how long one that
    calls late executions off by itself may take to do so.
    """

    _take: Callable[[Execution], None]
    _is_waiting: Callable[[], bool]

    def __init__(self, limit_s: float, metrics: Metrics, clock: Callable[[], float], *, grace_s: float = 0.0) -> None:
        self._limit_s = limit_s
        self._grace_s = grace_s
        self._metrics = metrics
        self._clock = clock
        self._ages: dict[Execution, int] = {}
        self._num_hangs: Counter[str] = Counter()
        self._num_stalled = 0
        self._faults: dict[str, tuple[str, float]] = {}
        """By stage, what is at fault and since when: the reader is well while the trunk hangs."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False
        for fault in (HANG, "memory", "outage", "failure"):
            metrics.recovery.series(fault)

    @property
    def is_stuck(self) -> bool:
        """Say whether no execution can be expected to end any more."""
        return max(self._num_hangs.values(), default=0) >= MAX_HANGS or self._num_stalled * TICK_S >= MAX_STALL_S

    def started(self, execution: Execution) -> None:
        """Begin to watch an execution, and say how long it may take."""
        execution.patience_s = self._patience_s(execution)
        self._ages[execution] = 0
        self.wake()

    def ended(self, execution: Execution) -> None:
        """Watch an execution no more; what ends well ends a fault."""
        self._ages.pop(execution, None)
        self._num_stalled = 0
        stage = execution.batch.stage
        if execution.error is None:
            self._num_hangs.pop(stage, None)
            execution.family.cold.discard((stage, execution.batch.bucket))
            if stage in self._faults:
                self._recovered(*self._faults.pop(stage))

    def failed(self, execution: Execution, fault: str) -> None:
        """Note that a fault of a stage has begun, unless one has not ended yet."""
        self._faults.setdefault(execution.batch.stage, (fault, execution.started_s or self._clock()))

    def connect(self, *, give_up: Callable[[Execution], None], is_waiting: Callable[[], bool]) -> None:
        """Name who takes each execution that runs too long, and who knows whether any work waits."""
        self._take, self._is_waiting = give_up, is_waiting

    def wake(self) -> None:
        """Look from now on, until there is nothing to look at."""
        if self._timer is None and not self._is_stopped:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._timer = None
        is_waiting = self._is_waiting()
        self._num_stalled = self._num_stalled + 1 if is_waiting and not self._ages else 0
        try:
            for execution in list(self._ages):
                self._ages[execution] += 1
                limit_s = (execution.patience_s or 0.0) + self._grace_s
                if self._ages[execution] * TICK_S > limit_s and execution.claim():
                    self._give_up(execution, limit_s)
        finally:  # whatever becomes of one, the others are watched
            if is_waiting or self._ages:
                self.wake()

    def _patience_s(self, execution: Execution) -> float:
        """Return how long a backend may take for an execution."""
        batch = execution.batch
        if (batch.stage, batch.bucket) in execution.family.cold:
            return max(self._limit_s, COLD_EXECUTION_S)
        limit_s = min(self._limit_s, DOUBT_S) if self._num_hangs[batch.stage] else self._limit_s
        return max(limit_s, HANG_TIMES * batch.predicted_s)

    def _give_up(self, execution: Execution, limit_s: float) -> None:
        batch = execution.batch
        self._num_hangs[batch.stage] += 1
        execution.error = BackendFailed(
            f"{batch.stage} execution", f"no end after {limit_s:.3g} s", "one that ends", cause=HANG
        )
        place = (batch.model, batch.stage, batch.bucket, len(batch.tickets), names_of(batch.tickets))
        _log.error("execution_hung model=%s stage=%s bucket=%d batch=%d requests=%s", *place)
        self._take(execution)

    def _recovered(self, fault: str, since_s: float) -> None:
        seconds = self._clock() - since_s
        self._metrics.recovery.series(fault).observe(seconds)
        _log.info("engine_recovered fault=%s seconds=%.3f", fault, seconds)
