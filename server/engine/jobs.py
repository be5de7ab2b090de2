"""A request inside the engine: one job, one entry for each sample, one answer."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from server.backends.base import ReaderOutput
from server.budget import Budget
from server.engine.families import Family
from server.records import Floats, InferAnswer, InferRequest, Receipt, Sample
from server.scheduler import Batch, Stage, Ticket, due_s

if TYPE_CHECKING:
    from server.engine.billing import Terms
    from server.tenancy import Bill

STAGGER = 2.0
"""How far apart the executions that a large request needs are due, in times of what one costs."""


@dataclass(slots=True, eq=False)
class Job:
    """An admitted request until it is settled."""

    request: InferRequest
    family: Family
    future: asyncio.Future[InferAnswer]
    admitted_s: float
    entries: list["Entry"] = field(default_factory=list)
    num_left: int = 0
    bill: "Bill | None" = None
    """Who pays for it, where callers are told apart."""
    is_settled: bool = False
    traceparent: str | None = None
    """The caller's trace, where traces are on and it has one."""

    def to_answer(self, now: float) -> InferAnswer:
        """Return the answer of a job whose entries have all run; `now` is its settlement."""
        manifest = self.family.manifest
        samples = tuple(entry.to_sample(now) for entry in self.entries)
        return InferAnswer(self.request.request_id, manifest.family, manifest.version, samples)


@dataclass(slots=True, eq=False, kw_only=True)
class Entry(Ticket):
    """One sample on its way; what each stage found out stays with it.

    Units: monotonic seconds; the `*_s` intervals add up over the stages.
    """

    job: Job
    index: int
    asked_cap: int
    """The cap that the caller's own ask came to; `cap` is what it has become."""
    reading: ReaderOutput | None = None
    row: int = 0
    """This sample's row in `reading`."""
    tape_length: int = 0
    tape_length_wanted: int = 0
    bucket: int = 0
    executed_flops: int = 0
    ready_s: float
    """When it began to wait for its next execution."""
    queue_s: float = 0.0
    read_s: float = 0.0
    read_done_s: float = 0.0
    trunk_s: float = 0.0
    logits_C: Floats | None = None

    @property
    def first_stage(self) -> Stage:
        """Samples that read nothing run apart: a reader batch pays for the bank if any of its caps is above 0."""
        return Stage.READ if self.cap > 0 else Stage.EMBED

    def was_read(self, reading: ReaderOutput, row: int, length: int, wanted: int) -> None:
        """Take this sample's row of a reading."""
        self.reading, self.row = reading, row
        self.tape_length, self.tape_length_wanted = length, wanted

    def ran(self, stage: Stage, flops: int, started_s: float, finished_s: float) -> None:
        """Account for one execution."""
        self.executed_flops += flops
        self.queue_s += started_s - self.ready_s
        self.ready_s = finished_s
        if stage is Stage.TRUNK:
            self.trunk_s = finished_s - started_s
        else:
            self.read_s = finished_s - started_s
            self.read_done_s = finished_s

    def was_answered(self, logits_C: Floats, bucket: int) -> None:
        """Take this sample's logits and the bucket that it ran in."""
        self.logits_C, self.bucket = logits_C, bucket

    def to_sample(self, now: float) -> Sample:
        assert self.logits_C is not None, "Only a sample that was answered has an answer. This is a bug."
        assert self.reading is not None, "Only a sample that was read has an answer. This is a bug."
        if not self.job.request.explain:
            return Sample(self.logits_C, self._receipt(now))
        picks_NK, pick_weights_NK = self.reading.picks_BNK[self.row], self.reading.pick_weights_BNK[self.row]
        return Sample(self.logits_C, self._receipt(now), picks_NK, pick_weights_NK)

    def _receipt(self, now: float) -> Receipt:
        family, is_read = self.job.family, self.cap > 0
        return Receipt(
            family.manifest.family,
            family.manifest.version,
            self.cap,
            self.reason,
            self.tape_length,
            self.tape_length_wanted if is_read else None,
            self.bucket,
            family.useful_flops[is_read][self.tape_length],
            self.executed_flops,
            self.queue_s,
            self.read_s,
            self.trunk_s,
            now - self.job.request.arrival_s,
        )


EntryBatch = Batch[Entry]


def new_job(
    request: InferRequest,
    family: Family,
    budgets: list[Budget],
    deadline_s: float,
    orders: Iterator[int],
    now: float,
    terms: "Terms | None" = None,
) -> Job:
    """Return a job with an entry for each sample, in the order they are to be served among equals.

    Of a large request one execution's worth is due at once and the next as if it came later, at the pace at which
    half of the device serves them: whoever comes meanwhile with a small request goes in between.
    """
    job = Job(request, family, asyncio.get_running_loop().create_future(), now, num_left=len(budgets))
    if terms is not None:
        job.bill = terms.bill
    priority = request.ask.priority
    due = due_s(request.arrival_s, inf, priority)
    chunk = family.costs.splits(Stage.READ, 0).best
    stagger_s = STAGGER * chunk * family.costs.sample_s[budgets[0].cap]
    job.entries = [
        Entry(
            due_s=min(deadline_s, due + index // chunk * stagger_s),
            order=next(orders),
            cap=budget.cap,
            reason=budget.reason,
            deadline_s=deadline_s,
            priority=priority,
            job=job,
            index=index,
            asked_cap=budget.asked_cap,
            floor=0 if terms is None else terms.standing.floor,
            share=None if terms is None else terms.standing.share,
            ready_s=request.arrival_s,
        )
        for index, budget in enumerate(budgets)
    ]
    return job


def names_of(entries: Iterable[Entry]) -> str:
    """Return the ids of the requests that entries belong to, as the log names them."""
    return ",".join(dict.fromkeys(entry.job.request.request_id for entry in entries))
