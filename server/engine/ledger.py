"""Who is still owed an answer. Every request that is let in leaves here exactly once."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from server.engine.families import Family
from server.engine.jobs import Entry, Job
from server.engine.spans import root_span, stage_spans
from server.errors import Cancelled, ServeError
from server.records import Priority

if TYPE_CHECKING:
    from server.metrics.tracing import Tracer


class Ledger:
    """The open jobs; `cancel` takes an entry out of line."""

    def __init__(
        self, clock: Callable[[], float], *, cancel: Callable[[Entry], None], tracer: "Tracer | None" = None
    ) -> None:
        self.num_pending = 0
        self._clock = clock
        self._cancel = cancel
        self._tracer = tracer
        self._jobs: set[Job] = set()
        self._when_empty = asyncio.Event()

    def jobs(self) -> list[Job]:
        """Return the jobs that are not settled."""
        return list(self._jobs)

    def open(self, job: Job) -> None:
        """Take on a job."""
        job.family.meter.admitted()
        self._jobs.add(job)
        self.num_pending += len(job.entries)
        if job.bill is not None:
            job.bill.open(self._clock())

    def settle(self, job: Job, error: ServeError | None = None) -> None:
        """Give a job its answer or an error and count it; a job that is settled already stays as it is."""
        if job.is_settled:
            return
        job.is_settled = True
        self._jobs.discard(job)
        self.num_pending -= len(job.entries)
        if job.future.cancelled():
            error = Cancelled("request", job.request.request_id, "a caller that waits for its answer")
        if error is None:
            self._answer(job)
        else:
            self._fail(job, error)
        if job.family.trial is not None:
            job.family.trial.settled(job.family, error)
        job.entries.clear()  # entries and job hold each other, and with them arrays and a family that may be unloaded
        if not self._jobs:
            self._when_empty.set()

    async def wait_empty(self) -> None:
        """Return once no job is open."""
        while self._jobs:
            self._when_empty.clear()
            await self._when_empty.wait()

    async def wait_settled(self, family: Family) -> None:
        """Return once the jobs of a family that are open now are settled."""
        futures = [job.future for job in self._jobs if job.family is family]
        if futures:
            await asyncio.wait(futures)

    def _answer(self, job: Job) -> None:
        answer = job.to_answer(self._clock())
        prepare_s = job.admitted_s - job.request.arrival_s
        trace_id = "" if self._tracer is None else self._trace(job, self._tracer)
        job.family.meter.answered(job.request.protocol, answer, prepare_s, trace_id)
        if job.bill is not None:
            job.bill.answered(answer, self._clock())
        if job.family.pilot is not None and job.request.ask.priority is not Priority.LOW:
            now = self._clock()
            job.family.pilot.settled(now, now - job.request.arrival_s)
        if job.family.guard is not None:
            job.family.guard.sample(job)
        job.future.set_result(answer)

    def _fail(self, job: Job, error: ServeError) -> None:
        for entry in job.entries:
            self._cancel(entry)
        total_s = self._clock() - job.request.arrival_s
        if self._tracer is not None:
            self._trace(job, self._tracer, error)
        spent_flops = [entry.executed_flops for entry in job.entries]
        job.family.meter.failed(job.request.protocol, error, spent_flops, total_s)
        if job.bill is not None:
            job.bill.failed(error, sum(spent_flops), self._clock())
        if not job.future.done():
            job.future.set_exception(error)

    def _trace(self, job: Job, tracer: "Tracer", error: ServeError | None = None) -> str:
        """Send a settled job's trace; return its id."""
        root = root_span(job.request, self._clock(), error)
        return tracer.record(job.traceparent, root, stage_spans(job), str(error or ""))
