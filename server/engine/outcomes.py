"""What becomes of an execution: samples that were read go in line for their bucket, answered ones are collected."""

import logging
from collections.abc import Callable
from math import inf

from server.backends.base import ReaderOutput, is_out_of_memory
from server.engine.dispatch import Dispatcher
from server.engine.execution import Execution
from server.engine.jobs import Entry, names_of
from server.engine.ledger import Ledger
from server.engine.watchdog import HANG
from server.errors import BackendFailed, DeadlineExceeded, OutOfMemory, ServeError, Unavailable
from server.records import BudgetReason, Floats
from server.scheduler import Stage, flops_of

_log = logging.getLogger("adatape.engine")


class Outcomes:
    """Takes executions back from the dispatcher, and entries that ran out of time."""

    def __init__(self, dispatcher: Dispatcher, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._clock = clock

    def take_back(self, execution: Execution) -> None:
        """Account for an execution, then send its samples on."""
        if execution.error is not None:
            self._fail_batch(execution, execution.error)
            return
        self._account(execution)
        entries = execution.batch.tickets
        if execution.reading is not None:
            self._bucket(entries, execution.reading)
        elif execution.logits_BC is not None:
            self._collect(entries, execution.batch.bucket, execution.logits_BC, execution.is_finite_B)

    def expire(self, entry: Entry) -> None:
        """Tell a caller that its deadline cannot be made any more."""
        request = entry.job.request
        waited = f"{request.ask.deadline_s:g} s, of which {self._clock() - request.arrival_s:.4f} s are gone"
        expected = "enough left to run at max_tape 0"
        self._ledger.settle(entry.job, DeadlineExceeded("deadline", waited, expected, cause="waiting"))

    def _account(self, execution: Execution) -> None:
        batch, family = execution.batch, execution.family
        stage, bucket, entries = batch.stage, batch.bucket, batch.tickets
        seconds = execution.finished_s - execution.started_s
        flops = flops_of(family.manifest.flops, stage, bucket)
        family.meter.executed(stage, bucket, len(entries), seconds, flops)
        family.meter.predicted(stage, bucket, batch.predicted_s, execution.taken_s)
        family.costs.observe(stage, bucket, len(entries), execution.taken_s)
        for entry in entries:
            entry.ran(stage, flops, execution.started_s, execution.finished_s)
            if entry.job.is_settled:
                family.meter.wasted(flops)
                if entry.job.bill is not None:
                    entry.job.bill.wasted(flops, self._clock())

    def _bucket(self, entries: list[Entry], reading: ReaderOutput) -> None:
        """Put each sample in line for the smallest bucket that holds its tape."""
        now, costs = self._clock(), entries[0].job.family.costs
        lengths = reading.tape_length_B1.ravel().tolist()
        lengths_wanted = reading.tape_length_wanted_B1.ravel().tolist()
        if entries[0].cap > 0:
            costs.mix.observe(lengths_wanted)
        for row, entry in enumerate(entries):
            if not entry.job.is_settled:
                length = lengths[row]
                fits = costs.cap_within(entry.deadline_s - now, length, 1) if entry.deadline_s < inf else length
                if fits < length:  # reading took longer than planned; a prefix of a tape is a tape
                    length = fits
                    entry.lower(fits, BudgetReason.DEADLINE)
                entry.was_read(reading, row, length, lengths_wanted[row])
                self._dispatcher.push(entry, Stage.TRUNK, costs.bucket_of[length], now)

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
        self._dispatcher.failed(execution, _fault_of(error))
        if is_out_of_memory(error) and len(batch.tickets) > 1:
            self._halve(execution)
            return
        place = (batch.model, batch.stage, batch.bucket, len(batch.tickets), names_of(batch.tickets))
        if isinstance(error, Unavailable):
            _log.warning(
                "execution_unavailable model=%s stage=%s bucket=%d batch=%d requests=%s reason=%r", *place, str(error)
            )
        elif not _is_hang(error):  # the watchdog has told
            _log.error("execution_failed model=%s stage=%s bucket=%d batch=%d requests=%s", *place, exc_info=error)
        for entry in batch.tickets:
            self._ledger.settle(entry.job, _to_failure(error, batch.stage))

    def _halve(self, execution: Execution) -> None:
        """Run a batch that did not fit into memory again, in halves; from now on none here is as large."""
        batch, costs, now = execution.batch, execution.family.costs, self._clock()
        size = max(1, len(batch.tickets) // 2)
        costs.limit_batch(batch.stage, batch.bucket, size)
        place = (batch.model, batch.stage, batch.bucket, len(batch.tickets), size, names_of(batch.tickets))
        _log.warning("batch_halved model=%s stage=%s bucket=%d batch=%d max_batch=%d requests=%s reason=memory", *place)
        for entry in batch.tickets:
            if not entry.job.is_settled:
                self._dispatcher.push(entry, batch.stage, batch.bucket, now)


def _fault_of(error: Exception) -> str:
    """Return the kind of fault that an execution met with, as the metrics name it."""
    if is_out_of_memory(error):
        return "memory"
    return HANG if _is_hang(error) else "outage" if isinstance(error, Unavailable) else "failure"


def _is_hang(error: Exception) -> bool:
    return isinstance(error, ServeError) and error.cause == HANG


def _to_failure(error: Exception, stage: Stage) -> ServeError:
    """Return what to tell one caller: an outage as it is, since waiting helps, and anything else as a failure."""
    if isinstance(error, Unavailable):
        return type(error)(str(error), retry_after_s=error.retry_after_s)
    got = str(error) if isinstance(error, ServeError) else type(error).__name__
    if is_out_of_memory(error):
        return OutOfMemory(f"{stage} execution", got, "memory for one sample")
    return BackendFailed(f"{stage} execution", got, "an answer for every sample")
