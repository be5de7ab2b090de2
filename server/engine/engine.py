"""The engine: admit -> read -> bucket -> run -> settle.

    infer          admits a request: a budget and a place in line for each sample
    Dispatcher     forms batches for idle instances, which run them
    Outcomes       read samples go in line for their bucket, answered ones are collected
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
from typing import TYPE_CHECKING

from server.backends.base import Backend
from server.controller import OBJECTIVE, Controller, MakePolicy
from server.engine.admission import Gate, decide_budgets
from server.engine.dispatch import Dispatcher
from server.engine.drain_gate import RETRY_ELSEWHERE_S, DrainGate
from server.engine.instances import Instances, ThreadInstances
from server.engine.jobs import Job, new_job
from server.engine.ledger import Ledger
from server.engine.outcomes import Outcomes
from server.engine.shelf import Shelf
from server.engine.spans import root_span
from server.engine.watchdog import Watchdog
from server.errors import Cancelled, Draining, ServeError, Unavailable
from server.metrics import Metrics
from server.metrics.tracing import CALLER
from server.models.repository import Repository
from server.records import InferAnswer, InferRequest
from server.scheduler import Fairness, Scheduler
from server.settings import Settings

if TYPE_CHECKING:
    from server.engine.billing import Billing
    from server.metrics.tracing import Tracer
    from server.tenancy import Tenancy

_log = logging.getLogger("adatape.engine")


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


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
        make_policy: MakePolicy = Controller,
        tenancy: "Tenancy | None" = None,
        tracer: "Tracer | None" = None,
    ) -> None:
        self.repository = repository
        self.tracer = tracer
        self.tenancy = tenancy
        self._billing = None if tenancy is None else _build_billing(tenancy)
        self._metrics = metrics
        self._settings = settings
        self._clock = clock
        instances = instances or ThreadInstances(settings.max_executions)
        fairness = None if tenancy is None else Fairness()
        self._dispatcher = Dispatcher(
            instances,
            Scheduler(settings.max_queue_delay_s, settings.floors, instances.size, fairness),
            clock,
            Watchdog(settings.patience_s, metrics, clock, grace_s=settings.grace_s),
        )
        self.drain_gate = DrainGate(clock)
        self._ledger = Ledger(clock, cancel=self._dispatcher.cancel, tracer=tracer)
        outcomes = Outcomes(self._dispatcher, self._ledger, clock)
        self._dispatcher.connect(on_done=outcomes.take_back, on_expired=outcomes.expire)
        self._gate = Gate(settings, self._dispatcher, lambda: self._ledger.num_pending)
        self.shelf = Shelf(repository, backend, metrics, settings, self._dispatcher, self._ledger, clock, make_policy)
        self._families = self.shelf.families
        self._orders = count()
        self._state = State.STARTING
        self._is_leaving = False
        metrics.pending.watch(lambda: self._ledger.num_pending)
        metrics.pending_limit.watch(lambda: settings.max_pending_samples)
        metrics.pending_s.watch(lambda: self._dispatcher.backlog_s(clock()))
        metrics.pending_s_limit.watch(lambda: settings.max_pending_s)
        metrics.agreement_least.watch(lambda: settings.min_agreement)
        if (slo_s := settings.slo_s) is not None:
            metrics.slo_s.watch(lambda: slo_s)
            metrics.slo_objective.watch(lambda: OBJECTIVE)
        metrics.running.watch(lambda: self._dispatcher.num_running)
        metrics.running_limit.watch(lambda: self._dispatcher.num_instances)
        metrics.ready.watch(lambda: float(self.is_ready))
        metrics.draining.watch(lambda: float(self.drain_gate.is_closed))

    @property
    def is_ready(self) -> bool:
        """Say whether to send requests: they are admitted, and will be for a while."""
        return self.is_admitting and not self._is_leaving

    @property
    def is_admitting(self) -> bool:
        """Say whether the running task's request is admitted: once started, while there is a family that can be run.

        While the server drains, that of a call which came in before the doors closed.
        """
        return self._is_open and any(family.model.is_ready for family in self._families.values())

    def check_open(self) -> None:
        """Return if the running task's call may still change or ask anything.

        Raises: Unavailable; Draining.
        """
        if not self._is_open:
            refusal = Unavailable if self._state is State.STARTING else Draining
            raise refusal("server", str(self._state), "ready", retry_after_s=RETRY_ELSEWHERE_S)

    @property
    def _is_open(self) -> bool:
        return self._state is State.READY or (self._state is State.DRAINING and self.drain_gate.is_inside())

    def check_live(self) -> None:
        """Return unless only a new process can help: executions hang one after another, or nothing runs what waits.

        Raises: Unavailable.
        """
        if self._dispatcher.is_stuck:
            raise Unavailable("the engine", "executions that never end", "one that answers: restart this process")

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
        if self.tenancy is not None:
            await self.tenancy.start()
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
            self._ledger.settle(job, self.drain_gate.reason() or _gone(request))
            raise

    def leave(self) -> None:
        """Say from now on that the server is not ready, and admit requests all the same until it drains."""
        self._is_leaving = True
        _log.info("engine_leaving requests=%d", len(self._ledger.jobs()))

    def close(self) -> None:
        """Refuse from now on what comes from now on."""
        if not self.drain_gate.is_closed:
            self._is_leaving = True
            self._state = State.DRAINING
            self.drain_gate.close()

    async def drain(self, timeout_s: float) -> int:
        """Refuse new requests, finish the accepted ones and stop; return how many were not finished in time.

        Those are told so, each once: it is the one owner of the time for all of them, whatever they wait for.
        """
        self.close()
        num_open = max(len(self._ledger.jobs()), self.drain_gate.num_inside)
        _log.info("engine_draining requests=%d timeout_s=%g", num_open, timeout_s)
        end_s = self._clock() + timeout_s
        await self.drain_gate.wait_empty(timeout_s)
        await self._wait_settled(end_s - self._clock())
        num_abandoned = await self.drain_gate.abandon()
        for job in (rest := self._ledger.jobs()):
            self._ledger.settle(job, self.drain_gate.time_is_up())
        num_abandoned += len(rest)
        self._state = State.STOPPED
        self._dispatcher.stop()
        if self.tenancy is not None:
            await self.tenancy.stop()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.stop)
        _log.info("engine_stopped abandoned=%d", num_abandoned)
        return num_abandoned

    async def _wait_settled(self, limit_s: float) -> None:
        """Return once no job is open, those included that came in by no door, or the time is up."""
        if limit_s > 0 and not self.drain_gate.is_hurried:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._ledger.wait_empty()

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
                family.meter.refused(request.protocol, error, now - request.arrival_s)
            if self.tracer is not None:
                self.tracer.record(CALLER.get(), root_span(request, now, error), error=str(error))
            if self._billing is not None and request.tenant is not None:
                self._billing.refused(request.tenant, error)
            raise
        if self.tracer is not None:
            job.traceparent = CALLER.get()
        self._ledger.open(job)
        for entry in job.entries:
            self._dispatcher.push(entry, entry.first_stage, 0, now)
        return job

    def _check(self, request: InferRequest, now: float) -> Job:
        self.check_open()
        family = self.shelf.route(request.model, request.version)
        family.check_ready()
        family.check(request, self._settings.max_request_samples)
        terms = None
        if self._billing is None or request.tenant is None:
            budgets = decide_budgets(request, family)
        else:
            terms = self._billing.judge(request, family, now)
            request, budgets = terms.request, terms.budgets
        family.meter.asked([budget.asked_cap for budget in budgets])
        deadline_s = request.ask.deadline_at(request.arrival_s)
        if family.pilot is not None:
            family.pilot.rate.add(now, len(budgets))
        self._gate.check(request, family, budgets, deadline_s, now, None if terms is None else terms.standing)
        return new_job(request, family, budgets, deadline_s, self._orders, now, terms)


def _build_billing(tenancy: "Tenancy") -> "Billing":
    from server.engine.billing import Billing

    return Billing(tenancy)


def _gone(request: InferRequest) -> Cancelled:
    return Cancelled("request", request.request_id, "a caller that waits for its answer")
