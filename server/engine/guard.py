"""Is a shortened tape still worth its answer? A small share of capped answers is run again at full tape, when idle.

What is run again is a *shadow*: it never delays a request (an idle device runs it, and it is dropped between its two
stages when work arrives), no caller sees it, and its FLOPs are counted as `shadow`, in no receipt.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from random import Random
from typing import Any, Protocol

from numpy.typing import NDArray

from server.budget import Budget
from server.engine.execution import Execution
from server.engine.families import Family
from server.engine.jobs import Entry, EntryBatch, Job, new_job
from server.records import BudgetReason, InferRequest
from server.scheduler import Batch, Stage, flops_of

_log = logging.getLogger("adatape.controller")

IDLE_S = 0.01
"""How long the device must have been idle before a shadow runs: requests that come in groups are not met by one."""
MAX_SHADOWS = 32
"""Shadows that wait to be run; the oldest give way."""
MIN_COMPARED = 50
"""Answers compared at a cap before its agreement can hold anything back."""
HOLD_S = 600.0
"""How long a cap is held back; after that it may be tried, and is judged afresh."""
FADE = 0.998
"""How much of what was known remains after each comparison."""


class Agreement:
    """How often answers under one cap name the class that full tape names; recent ones weigh more."""

    def __init__(self) -> None:
        self.num_compared = 0
        self._weight = 0.0
        self._agreed = 0.0

    def add(self, *, is_same: bool) -> None:
        self.num_compared += 1
        self._weight = FADE * self._weight + 1
        self._agreed = FADE * self._agreed + is_same

    @property
    def ratio(self) -> float:
        """Return the share that agreed; 1 before anything was compared."""
        return self._agreed / self._weight if self._weight else 1.0


@dataclass(frozen=True, slots=True)
class Shadow:
    """A capped answer to compare: its own copy of the pixels, so that no whole request is kept.

    Shapes: pixels_1X is a batch of one in the model's input layout.
    """

    request_id: str
    pixels_1X: NDArray[Any]
    cap: int
    best_class: int


class IdleDevice(Protocol):
    """What a guard needs of the dispatcher."""

    @property
    def is_idle(self) -> bool: ...

    def run_idle(self, batch: EntryBatch, family: Family, on_done: Callable[[Execution], None]) -> None:
        """Run a batch that nobody waits for."""
        ...


class Guard:
    """Watches the quality of one family's capped answers.

    `share` of them are compared; where fewer than `min_agreement` of a cap's answers agree, load imposes it no more.
    """

    def __init__(
        self, family: Family, device: IdleDevice, clock: Callable[[], float], *, share: float, min_agreement: float
    ) -> None:
        capacity = family.costs.capacity
        self.agreements = {cap: Agreement() for cap in range(capacity)}
        self._family = family
        self._device = device
        self._clock = clock
        self._share = share
        self._min_agreement = min_agreement
        self._full = Budget(capacity, BudgetReason.MODEL, capacity)
        self._random = Random(0)
        self._shadows: deque[Shadow] = deque(maxlen=MAX_SHADOWS)
        self._orders = count()
        self._held: dict[int, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def sample(self, job: Job) -> None:
        """Look at a job that is being answered, and remember a share of its capped answers."""
        for entry in job.entries:
            if entry.cap < self._full.cap and self._random.random() < self._share:
                if entry.cap > 0 and entry.tape_length_wanted <= entry.cap:
                    self._compare(entry.cap, is_same=True)  # the cap did not bind: it is full tape's answer
                elif entry.logits_C is not None:
                    pixels_1X = job.request.inputs_BX[entry.index : entry.index + 1].copy()
                    best_class = int(entry.logits_C.argmax())
                    self._shadows.append(Shadow(job.request.request_id, pixels_1X, entry.cap, best_class))

    def ratio(self, cap: int) -> float:
        """Return the share of a cap's answers that agree with full tape, lately."""
        return self.agreements[cap].ratio

    def idle(self) -> None:
        """Run the next shadow if the device stays idle for a while."""
        if self._shadows and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._start)

    def stop(self) -> None:
        """Forget all shadows."""
        self._shadows.clear()
        if self._timer is not None:
            self._timer.cancel()

    def least_cap(self, caps: list[int]) -> int:
        """Return the smallest of `caps`, which rise, that may be imposed now."""
        now = self._clock()
        for cap in [cap for cap, until_s in self._held.items() if until_s <= now]:
            del self._held[cap]
            self.agreements[cap] = Agreement()
        worst = max(self._held, default=-1)
        return next(cap for cap in caps if cap > worst)

    def _start(self) -> None:
        self._timer = None
        if self._shadows and self._device.is_idle:
            shadow = self._shadows.popleft()
            entry = self._to_entry(shadow)
            self._run(Stage.READ, 0, entry, lambda execution: self._was_read(execution, shadow, entry))

    def _to_entry(self, shadow: Shadow) -> Entry:
        """Return the sample as an entry of its own, asked for at full tape."""
        now = self._clock()
        request = InferRequest(shadow.request_id, self._family.manifest.family, shadow.pixels_1X, now)
        return new_job(request, self._family, [self._full], inf, self._orders, now).entries[0]

    def _run(self, stage: Stage, bucket: int, entry: Entry, on_done: Callable[[Execution], None]) -> None:
        predicted_s = self._family.costs.predict_s(stage, bucket, 1)
        batch = Batch(self._family.key, stage, bucket, [entry], predicted_s, 0.0)
        self._device.run_idle(batch, self._family, on_done)

    def _was_read(self, execution: Execution, shadow: Shadow, entry: Entry) -> None:
        reading = execution.reading
        if not self._is_usable(execution) or reading is None or not self._device.is_idle:
            return  # work has come: the shadow gives way
        length, wanted = int(reading.tape_length_B1[0, 0]), int(reading.tape_length_wanted_B1[0, 0])
        entry.was_read(reading, 0, length, wanted)
        bucket = self._family.costs.bucket_of[length]
        self._run(Stage.TRUNK, bucket, entry, lambda execution: self._was_run(execution, shadow))

    def _was_run(self, execution: Execution, shadow: Shadow) -> None:
        if self._is_usable(execution) and execution.logits_BC is not None:
            self._compare(shadow.cap, is_same=int(execution.logits_BC[0].argmax()) == shadow.best_class)

    def _is_usable(self, execution: Execution) -> bool:
        """Count what a shadow's execution cost, and say whether it came to anything."""
        if execution.error is not None:
            request_id = execution.batch.tickets[0].job.request.request_id
            _log.warning(
                "shadow_failed model=%s stage=%s request=%s", self._family.key, execution.batch.stage, request_id
            )
            return False
        batch = execution.batch
        self._family.meter.shadowed(flops_of(self._family.manifest.flops, batch.stage, batch.bucket))
        return True

    def _compare(self, cap: int, *, is_same: bool) -> None:
        agreement = self.agreements[cap]
        agreement.add(is_same=is_same)
        self._family.meter.compared(cap, is_same=is_same)
        is_judged = agreement.num_compared >= MIN_COMPARED and cap not in self._held
        if is_judged and agreement.ratio < self._min_agreement:
            self._held[cap] = self._clock() + HOLD_S
            place = (self._family.manifest.family, cap, agreement.ratio, self._min_agreement)
            _log.warning("cap_held_back model=%s cap=%d agreement=%.3f least=%.3f", *place)
