"""A settled request as spans: decode, then queue, read, queue and trunk for each of its samples."""

from collections.abc import Iterator
from itertools import islice

from server.engine.jobs import Entry, Job
from server.errors import ServeError
from server.metrics.tracing import Span, Value
from server.records import InferRequest

MAX_SAMPLES = 16
"""Samples of one request that are drawn; a batch of hundreds would be no picture."""


def root_span(request: InferRequest, now: float, error: ServeError | None = None) -> Span:
    """Return the span of a whole request, let in or not."""
    attributes: dict[str, Value] = {
        "adatape.request_id": request.request_id,
        "adatape.model": request.model,
        "adatape.protocol": request.protocol,
        "adatape.num_samples": request.num_samples,
        "adatape.outcome": "ok" if error is None else error.reason,
    }
    return Span(f"{request.protocol} {request.model}", request.arrival_s, now, attributes)


def stage_spans(job: Job) -> list[Span]:
    """Return the spans inside a request, of as much of it as has run."""
    decode = Span("decode", job.request.arrival_s, job.admitted_s)
    return [decode, *(span for entry in islice(job.entries, MAX_SAMPLES) for span in _entry_spans(entry))]


def _entry_spans(entry: Entry) -> Iterator[Span]:
    """Take times as the stages left them: an entry whose `executed_flops` is 0 has run in none."""
    place: dict[str, Value] = {"adatape.sample": entry.index}
    if entry.executed_flops == 0:
        return
    read_start_s = entry.read_done_s - entry.read_s
    tape: dict[str, Value] = {"adatape.cap": entry.cap, "adatape.budget_reason": str(entry.reason)}
    yield Span("queue", entry.job.admitted_s, read_start_s, place)
    if entry.reading is None:
        yield Span("read", read_start_s, entry.read_done_s, place | tape)
        return
    tape |= {"adatape.tape_length": entry.tape_length, "adatape.tape_length_wanted": entry.tape_length_wanted}
    yield Span("read", read_start_s, entry.read_done_s, place | tape)
    if entry.trunk_s > 0:
        trunk_start_s = entry.ready_s - entry.trunk_s
        flops: dict[str, Value] = {
            "adatape.bucket": entry.bucket,
            "adatape.useful_flops": entry.job.family.useful_flops[entry.cap > 0][entry.tape_length],
            "adatape.executed_flops": entry.executed_flops,
        }
        yield Span("queue", entry.read_done_s, trunk_start_s, place)
        yield Span("trunk", trunk_start_s, entry.ready_s, place | tape | flops)
