"""Every metric of the server, declared once, and the few events that move them."""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server import __version__
from server.errors import ServeError, all_errors
from server.manifest import Manifest
from server.metrics.meters import Counter, Gauge, Histogram, geometric
from server.metrics.model import ModelMeter

PROTOCOLS = ("classify", "oip", "oip_grpc")
REASONS = tuple(sorted(error.reason for error in all_errors()))
NO_MODEL = "none"

SECONDS = geometric(100e-6, 10.0, per_decade=5)
FLOPS = geometric(1e6, 1e12, per_decade=7)
TAPE_LENGTHS = (*range(17), 20, 24, 28, 32, 48, 64, 96, 128)
RATIOS = geometric(0.1, 10.0, per_decade=10)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Metrics(Collector):
    """Everything `/metrics` shows, on a registry of its own.

    `Engine.infer` counts the requests that reach it; a surface counts those that it refuses itself with `refused`.
    All methods belong to the event loop's thread.
    """

    def __init__(self) -> None:
        model = ("model",)
        self.requests = Counter(
            "adatape_requests_total", "Requests settled, by outcome", ("model", "protocol", "outcome")
        )
        self.admitted = Counter("adatape_requests_admitted_total", "Requests that were let in", model)
        self.inferences = Counter("adatape_inferences_total", "Samples answered", model)
        self.errors = Counter("adatape_errors_total", "Requests not answered, by reason", ("reason",))
        self.flops = Counter(
            "adatape_flops_total",
            "FLOPs of answers (useful, padding), of work whose request was not answered (wasted), of checks (shadow)",
            ("model", "kind"),
        )
        self.budget_reasons = Counter(
            "adatape_budget_reason_total", "Samples answered, by the rule that set their cap", ("model", "reason")
        )
        self.duration = Histogram(
            "adatape_request_duration_seconds", "Arrival to answer, a request", SECONDS, ("model", "protocol")
        )
        self.queue = Histogram("adatape_queue_seconds", "Waiting, a sample", SECONDS, model)
        self.read = Histogram("adatape_read_seconds", "In the reader, a sample", SECONDS, model)
        self.trunk = Histogram("adatape_trunk_seconds", "In the trunk, a sample", SECONDS, model)
        self.useful = Histogram("adatape_sample_useful_flops", "FLOPs at its own tape length, a sample", FLOPS, model)
        self.executed = Histogram("adatape_sample_executed_flops", "FLOPs that ran, a sample", FLOPS, model)
        self.used = Histogram("adatape_tape_length_used", "Tape length, a sample", TAPE_LENGTHS, model)
        self.wanted = Histogram(
            "adatape_tape_length_wanted", "Tape length by halting alone, a sample that was read", TAPE_LENGTHS, model
        )
        self.asked = Histogram(
            "adatape_tape_length_requested_cap", "Cap that the caller's ask comes to, a sample", TAPE_LENGTHS, model
        )
        self.batch_size = Histogram(
            "adatape_batch_size", "Samples in an execution", BATCH_SIZES, ("model", "stage", "bucket")
        )
        self._open_load(model)
        self.models = Gauge("adatape_model_info", "Families loaded", ("model", "version", "precision", "device"))
        build = Gauge("adatape_build_info", "This server", ("version", "python"))
        build.watch(lambda: 1, __version__, platform.python_version())
        self._meters = [meter for meter in vars(self).values() if isinstance(meter, Counter | Gauge | Histogram)]
        self._meters.append(build)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        self.errors.declare((reason,) for reason in REASONS)
        self._declare_requests(NO_MODEL)

    def _open_load(self, model: tuple[str]) -> None:
        """Declare what shows how full the server is, and what it does about it."""
        self.prediction = Histogram(
            "adatape_execution_prediction_ratio",
            "Time of an execution, actual over predicted",
            RATIOS,
            ("model", "stage"),
        )
        self.agreement = Gauge(
            "adatape_shadow_agreement_ratio", "Capped answers that name full tape's class, lately", ("model", "cap")
        )
        self.shadows = Counter(
            "adatape_shadow_comparisons_total",
            "Capped answers compared with full tape, by what came of it",
            ("model", "cap", "result"),
        )
        self.pending = Gauge("adatape_pending_samples", "Samples admitted and not yet answered")
        self.pending_limit = Gauge("adatape_pending_samples_limit", "Pending samples beyond which requests are refused")
        self.pending_s = Gauge("adatape_pending_seconds", "Predicted time until all that is admitted has run")
        self.pending_s_limit = Gauge(
            "adatape_pending_seconds_limit", "Predicted seconds beyond which requests are refused"
        )
        self.controller_cap = Gauge("adatape_controller_cap", "Cap that the controller has chosen", model)
        self.controller_moves = Counter(
            "adatape_controller_moves_total", "Changes of the controller's cap", ("model", "direction")
        )
        self.slo_answers = Counter(
            "adatape_slo_answers_total",
            "Answers of high and normal priority, by the service level",
            ("model", "result"),
        )
        self.ready = Gauge("adatape_ready", "1 while requests are admitted")

    def collect(self) -> Iterator[Metric]:
        return (meter.collect() for meter in self._meters)

    def refused(self, error: ServeError, *, protocol: str, model: str = NO_MODEL) -> None:
        """Count a request that was refused before it was let in (bad image, unknown path, overload, ...).

        `model` is a family that exists, never a caller's own words: they would make labels without bound.
        """
        self.requests.add(1, model, protocol, error.reason)
        self.errors.add(1, error.reason)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def meter(self, manifest: Manifest) -> ModelMeter:
        """Return a family's own handle, with every label combination that it can show at 0."""
        self._declare_requests(manifest.family)
        return ModelMeter(self, manifest)

    def _declare_requests(self, model: str) -> None:
        self.requests.declare((model, protocol, outcome) for protocol in PROTOCOLS for outcome in ("ok", *REASONS))
