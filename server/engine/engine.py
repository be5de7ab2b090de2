"""The engine: admit -> read -> bucket -> run -> settle.

    infer          admits a request: a budget and a place in line for each sample
    Dispatcher     forms batches for idle instances, which run them
    _take_back     read samples go in line for their bucket, answered ones are collected
    Ledger.settle  the one place where a future is set, once

Everything here runs on one event loop; executions alone run elsewhere.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from enum import StrEnum
from itertools import count

from server.backends.base import Backend, Reading
from server.engine.admission import deadline_of, decide_budgets
from server.engine.dispatch import Dispatcher
from server.engine.execution import Execution
from server.engine.instances import Instances, ThreadInstances
from server.engine.jobs import Entry, Job, new_job
from server.engine.ledger import Ledger
from server.engine.shelf import Shelf
from server.errors import BackendFailed, Cancelled, DeadlineExceeded, Draining, Overloaded, ServeError, Unavailable
from server.metrics import Metrics
from server.records import Floats, InferAnswer, InferRequest
from server.repository import Repository
from server.scheduler import Scheduler, Stage, flops_of
from server.settings import Settings

_log = logging.getLogger("adatape.engine")

RETRY_ELSEWHERE_S = 1.0
"""A draining server does not come back, but whoever balances between servers learns of it within about this."""


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Engine:
    """Answers requests with the families of one repository on one device.

    All methods belong to one event loop. Lifetime: `start`, any number of `infer`, `drain`; in between, families come
    and go by `shelf`.
    """

    def __init__(
        self,
        repository: Repository,
        backend: Backend,
        metrics: Metrics,
        settings: Settings,
        *,
        instances: Instances | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repository = repository
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        self._dispatcher = Dispatcher(
            instances or ThreadInstances(settings.num_instances),
            Scheduler(settings.max_queue_delay_s),
            clock,
            on_done=self._take_back,
            on_expired=self._expire,
        )
        self._ledger = Ledger(clock, cancel=self._dispatcher.cancel)
        self.shelf = Shelf(repository, backend, metrics, settings, self._dispatcher, self._ledger, clock)
        self._families = self.shelf.families
        self._orders = count()
        self._state = State.STARTING
        metrics.pending.watch(lambda: self._ledger.num_pending)
        metrics.pending_limit.watch(lambda: settings.max_pending_samples)
        metrics.ready.watch(lambda: float(self.is_ready))

    @property
    def is_ready(self) -> bool:
        """Say whether requests are admitted: started, at least one family loaded, not draining."""
        return self._state is State.READY and bool(self._families)

    @property
    def device(self) -> str:
        """Return the provider that really runs the graphs, for instance `CPUExecutionProvider`; "none" if none does."""
        return next((family.model.device for family in self._families.values()), "none")

    @property
    def num_pending(self) -> int:
        """Return the samples admitted and not yet answered."""
        return self._ledger.num_pending

    async def start(self) -> None:
        """Load and warm every family of the repository, newest version each, then admit requests.

        A family that cannot be loaded is logged and left out; the others are served.
        """
        self._dispatcher.start()
        for place, reason in self.repository.broken().items():
            _log.error("family_broken family=%s reason=%r", place, reason)
        await self.shelf.load_all()
        self._state = State.READY
        _log.info("engine_ready families=%s device=%s", ",".join(self._families) or "none", self.device)

    async def infer(self, request: InferRequest) -> InferAnswer:
        """Answer a request, every sample of it, or raise; counts the outcome in the metrics exactly once.

        Cancelling the awaiting task takes the request's samples out of the queue and disturbs no other.
        Raises: BadRequest (pixels that do not fit the model, a budget that no cap can meet), NotFound,
        ModelNotReady, Overloaded, Draining, DeadlineExceeded, BackendFailed.
        """
        job = self._admit(request)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._ledger.settle(job, Cancelled("request", request.request_id, "a caller that waits for its answer"))
            raise

    async def drain(self, timeout_s: float) -> int:
        """Refuse new requests, finish the accepted ones and stop; return how many were failed at the timeout."""
        self._state = State.DRAINING
        _log.info("engine_draining requests=%d timeout_s=%g", len(self._ledger.jobs()), timeout_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ledger.wait_empty()
        abandoned = self._ledger.jobs()
        for job in abandoned:
            self._ledger.settle(job, Draining("request", f"unfinished after {timeout_s:g} s", "to finish in time"))
        self._dispatcher.stop()
        _log.info("engine_stopped abandoned=%d", len(abandoned))
        return len(abandoned)

    def _admit(self, request: InferRequest) -> Job:
        """Let a request in, or count it as refused and raise why."""
        now = self._clock()
        try:
            job = self._check(request, now)
        except ServeError as error:
            family = self._families.get(request.model)
            if family is None:
                self._metrics.refused(error, protocol=request.protocol)
            else:
                family.meter.failed(request.protocol, error, 0, now - request.arrival_s)
            raise
        self._ledger.open(job)
        for entry in job.entries:
            self._dispatcher.push(entry, entry.first_stage, 0, now)
        return job

    def _check(self, request: InferRequest, now: float) -> Job:
        if self._state is not State.READY:
            refusal = Draining if self._state is State.DRAINING else Unavailable
            raise refusal("server", str(self._state), "ready", retry_after_s=RETRY_ELSEWHERE_S)
        family = self.shelf.find(request.model, request.version)
        family.check(request, self._settings.max_request_samples)
        budgets = decide_budgets(request, family)
        deadline_s = deadline_of(request, now)
        self._check_room(request.num_samples)
        return new_job(request, family, budgets, deadline_s, self._orders, now)

    def _check_room(self, num_samples: int) -> None:
        limit = self._settings.max_pending_samples
        if self._ledger.num_pending + num_samples > limit:
            got = f"{num_samples} samples beside {self._ledger.num_pending} pending"
            raise Overloaded("server", got, f"at most {limit} pending", retry_after_s=self._dispatcher.wait_s())

    def _take_back(self, execution: Execution) -> None:
        """Account for an execution, then send its samples on."""
        if execution.error is not None:
            self._fail_batch(execution, execution.error)
            return
        batch, family = execution.batch, execution.family
        stage, bucket, entries = batch.stage, batch.bucket, batch.tickets
        seconds = execution.finished_s - execution.started_s
        family.meter.executed(stage, bucket, len(entries), seconds)
        family.latency.observe(stage, bucket, len(entries), seconds)
        flops = flops_of(family.manifest.flops, stage, bucket)
        for entry in entries:
            entry.ran(stage, flops, execution.started_s, execution.finished_s)
            if entry.job.is_settled:
                family.meter.wasted(flops)
        if execution.reading is not None:
            self._bucket(entries, execution.reading)
        elif execution.logits_BC is not None:
            self._collect(entries, bucket, execution.logits_BC, execution.is_finite_B)

    def _bucket(self, entries: list[Entry], reading: Reading) -> None:
        """Put each sample in line for the smallest bucket that holds its tape."""
        now = self._clock()
        lengths = reading.tape_length_B1.ravel().tolist()
        lengths_wanted = reading.tape_length_wanted_B1.ravel().tolist()
        for row, entry in enumerate(entries):
            if not entry.job.is_settled:
                entry.was_read(reading, row, lengths[row], lengths_wanted[row])
                self._dispatcher.push(entry, Stage.TRUNK, entry.job.family.bucket_of[lengths[row]], now)

    def _collect(self, entries: list[Entry], bucket: int, logits_BC: Floats, is_finite_B: list[bool]) -> None:
        """Hand each sample its logits and settle the jobs that have them all."""
        for row, entry in enumerate(entries):
            job = entry.job
            if job.is_settled:
                continue
            if not is_finite_B[row]:
                self._ledger.settle(job, BackendFailed("logits", "NaN or infinity", "finite numbers"))
                continue
            entry.was_answered(logits_BC[row], bucket)
            job.num_left -= 1
            if job.num_left == 0:
                self._ledger.settle(job)

    def _fail_batch(self, execution: Execution, error: Exception) -> None:
        batch = execution.batch
        place = (batch.model, batch.stage, batch.bucket, len(batch.tickets))
        _log.error("execution_failed model=%s stage=%s bucket=%d batch=%d", *place, exc_info=error)
        got = str(error) if isinstance(error, ServeError) else type(error).__name__
        for entry in batch.tickets:
            self._ledger.settle(entry.job, BackendFailed(f"{batch.stage} execution", got, "an answer for every sample"))

    def _expire(self, entry: Entry) -> None:
        waited = f"{self._clock() - entry.job.request.arrival_s:.4f} s"
        self._ledger.settle(
            entry.job, DeadlineExceeded("deadline", waited, f"at most {entry.job.request.ask.deadline_s:g} s")
        )
