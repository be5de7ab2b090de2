"""OpenTelemetry traces of requests, made when a request ends from the times that it carries anyway.

Off unless `--otlp-endpoint` names a collector: then, and only then, the SDK and its exporter are imported. Their own
OTEL_* environment variables hold, OTEL_TRACES_SAMPLER among them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from server import __version__
from server.metrics.redaction import redact

CALLER: ContextVar[str | None] = ContextVar("traceparent", default=None)
"""The W3C `traceparent` of the call that the present task answers; surfaces set it where traces are on."""

_NS = 1e9
_PATH = "/v1/traces"
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a request's time. Units: seconds on the server's monotonic clock."""

    name: str
    start_s: float
    end_s: float
    attributes: Mapping[str, Value] = field(default_factory=dict)


def refusal_span(protocol: str, request_id: str, arrival_s: float, now: float, outcome: str) -> Span:
    """Return the span of a call that was refused before it named a model."""
    attributes: dict[str, Value] = {
        "adatape.request_id": request_id,
        "adatape.protocol": protocol,
        "adatape.outcome": outcome,
    }
    return Span(protocol, arrival_s, now, attributes)


class Tracer:
    """Sends each request's spans to a collector, in batches and from a thread of its own."""

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": "adatape-serve", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + _PATH)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("adatape", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._clock = clock

    def record(self, traceparent: str | None, root: Span, children: Sequence[Span] = (), error: str = "") -> str:
        """Send a request's spans as part of the caller's trace, or as a trace of their own; return the trace's id."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        to_ns = self._to_unix_ns()
        caller = self._propagator.extract({"traceparent": traceparent}) if traceparent else None
        span = self._start(root, caller, to_ns, SpanKind.SERVER)
        if span.is_recording():
            inside = set_span_in_context(span)
            for child in children:
                self._start(child, inside, to_ns, SpanKind.INTERNAL).end(to_ns(child.end_s))
            if error:
                span.set_status(Status(StatusCode.ERROR, redact(error)))
        span.end(to_ns(root.end_s))
        return f"{span.get_span_context().trace_id:032x}"

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _start(self, span: Span, context: Any, to_ns: Callable[[float], int], kind: Any) -> Any:
        return self._tracer.start_span(
            span.name, context, kind, attributes=dict(span.attributes), start_time=to_ns(span.start_s)
        )

    def _to_unix_ns(self) -> Callable[[float], int]:
        """Return a function from monotonic seconds to Unix nanoseconds."""
        wall_ns, now_s = time.time_ns(), self._clock()
        return lambda at_s: wall_ns - round((now_s - at_s) * _NS)
