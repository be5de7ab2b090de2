"""Every metric of the server, defined once by name, meaning, unit and labels.

docs/metrics.md is generated from these definitions.
"""

from bisect import insort

from server.errors import ServeError
from server.metrics.metric_types import Counter, Gauge, Histogram, geometric, to_signed

SECONDS = geometric(100e-6, 10.0, per_decade=4)
FLOPS = geometric(1e6, 1e12, per_decade=4)
RATIOS = geometric(0.1, 10.0, per_decade=10)
ERRORS_S = to_signed(geometric(100e-6, 1.0, per_decade=2))
RECOVERY_AIM_S = 5.0
RECOVERY_S = (*geometric(1e-3, 4.0, per_decade=3), RECOVERY_AIM_S, 10.0, 20.0, 50.0, 100.0)
BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)

NO_MODEL = "none"
"""The label of requests that were refused before they named a model that exists."""

_MODEL = ("model",)
_PLACE = ("model", "stage", "bucket")
_SAMPLE = ("model", "version", "bucket", "outcome")


class MetricDefinitions:
    """All metrics as attributes. With a service level, `slo_s`, every histogram of latencies has an edge there."""

    def __init__(self, slo_s: float | None) -> None:
        self._seconds = list(SECONDS)
        if slo_s is not None and slo_s not in SECONDS:
            insort(self._seconds, slo_s)
        self._declare_requests()
        self._declare_samples()
        self._declare_executions()
        self._declare_load()
        self._declare_connections()
        self._declare_quality()
        self._declare_tenants()

    def refused(self, error: ServeError, *, protocol: str, model: str = NO_MODEL) -> None:
        """Count a request that was refused before it was let in (bad image, unknown path, overload, ...).

        `model` is a family that exists, never a caller's own words: they would make labels without bound.
        """
        self.requests.add(1, model, protocol, error.reason)
        self.errors.add(1, error.reason)

    def _declare_requests(self) -> None:
        self.requests = Counter(
            "adatape_requests_total", "Requests settled, by outcome", ("model", "protocol", "outcome")
        )
        self.admitted = Counter("adatape_requests_admitted_total", "Requests that were let in", _MODEL)
        self.errors = Counter("adatape_errors_total", "Requests not answered, by reason", ("reason",))
        self.duration = Histogram(
            "adatape_request_duration_seconds", "Arrival to answer, a request", self._seconds, ("model", "protocol")
        )
        by_cause = ("model", "cause")
        self.shed = Counter("adatape_shed_total", "Requests refused for overload, by the limit they met", by_cause)
        self.expired = Counter(
            "adatape_expired_total", "Requests whose deadline could not be made, by when that was seen", by_cause
        )
        self.cancelled = Counter(
            "adatape_cancelled_total", "Requests whose caller left, before or after their first execution", by_cause
        )
        self.slo_answers = Counter(
            "adatape_slo_answers_total",
            "Answers of high and normal priority, by the service level",
            ("model", "result"),
        )
        self.slo_attainment = Gauge(
            "adatape_slo_attainment_ratio", "Share of these answers within the service level, lately", _MODEL
        )
        self.slo_objective = Gauge("adatape_slo_objective_ratio", "Share that the service level asks for")
        self.slo_s = Gauge("adatape_slo_seconds", "The service level: the time that answers ought to take at most")

    def _declare_samples(self) -> None:
        self.inferences = Counter("adatape_inferences_total", "Samples answered", _MODEL)
        self.sample = Histogram("adatape_sample_seconds", "Arrival to settlement, a sample", self._seconds, _SAMPLE)
        self.queue = Histogram("adatape_queue_seconds", "Waiting, a sample answered", self._seconds, _MODEL)
        self.read = Histogram("adatape_read_seconds", "In the reader, a sample answered", self._seconds, _MODEL)
        self.trunk = Histogram("adatape_trunk_seconds", "In the trunk, a sample answered", self._seconds, _MODEL)
        self.useful = Histogram(
            "adatape_sample_useful_flops", "FLOPs at its own tape length, a sample answered", FLOPS, _SAMPLE
        )
        self.executed = Histogram(
            "adatape_sample_executed_flops", "FLOPs that ran for it, a sample settled", FLOPS, _SAMPLE
        )
        self.used = Histogram("adatape_tape_length_used", "Tape length, a sample answered", (), _MODEL)
        self.wanted = Histogram(
            "adatape_tape_length_wanted", "Tape length by halting alone, a sample that was read", (), _MODEL
        )
        self.cap = Histogram("adatape_tape_length_cap", "Cap in effect, a sample answered", (), _MODEL)
        self.asked = Histogram(
            "adatape_tape_length_requested_cap", "Cap that a caller's ask comes to, a sample, let in or not", (), _MODEL
        )
        self.budget_reasons = Counter(
            "adatape_budget_reason_total", "Samples answered, by the rule that set their cap", ("model", "reason")
        )
        self.degraded = Counter(
            "adatape_degraded_total", "Samples answered under a smaller cap than asked, by cause", ("model", "cause")
        )

    def _declare_executions(self) -> None:
        self.batch_size = Histogram("adatape_batch_size", "Samples in an execution", BATCH_SIZES, _PLACE)
        self.batch_limit = Gauge("adatape_batch_size_limit", "Most samples in an execution", _MODEL)
        self.execution = Histogram("adatape_execution_seconds", "Time of an execution", self._seconds, _PLACE)
        self.prediction = Histogram(
            "adatape_execution_prediction_ratio",
            "Time an instance was kept by an execution, actual over predicted",
            RATIOS,
            _PLACE[:2],
        )
        self.prediction_error = Histogram(
            "adatape_predicted_minus_actual_seconds",
            "Time an instance was kept by an execution, predicted minus actual",
            ERRORS_S,
            _PLACE[:2],
        )
        self.running = Gauge("adatape_executions_running", "Executions that run now")
        self.running_limit = Gauge("adatape_executions_running_limit", "Executions that may run at once")
        self.flops = Counter(
            "adatape_flops_total",
            "FLOPs of answers (useful, padding), of work whose request was not answered (wasted), of checks (shadow)",
            ("model", "kind"),
        )
        by_cause = ("model", "cause")
        self.padding = Counter(
            "adatape_padding_flops_total", "FLOPs of padding, by what was longer than needed", by_cause
        )
        self.wasted = Counter(
            "adatape_wasted_flops_total", "FLOPs of work whose request was not answered, by what became of it", by_cause
        )
        self.executed_flops = Counter("adatape_executed_flops_total", "FLOPs that ran, by execution", _PLACE)

    def _declare_load(self) -> None:
        """Declare what shows how full the server is, and what it does about it."""
        self.demanded_flops = Counter(
            "adatape_demanded_flops_total", "FLOPs that all samples asked for should take, let in or not", _MODEL
        )
        self.capacity_flops = Gauge(
            "adatape_capacity_flops_per_second", "FLOPs a second that could be run at full tape, as predicted", _MODEL
        )
        self.pending = Gauge("adatape_pending_samples", "Samples admitted and not yet answered")
        self.pending_limit = Gauge("adatape_pending_samples_limit", "Pending samples beyond which requests are refused")
        self.pending_s = Gauge("adatape_pending_seconds", "Predicted time until all that is admitted has run")
        self.pending_s_limit = Gauge(
            "adatape_pending_seconds_limit", "Predicted seconds beyond which requests are refused"
        )
        self.waiting = Gauge("adatape_waiting_samples", "Samples in line, by what they wait for", _PLACE)
        self.controller_cap = Gauge("adatape_controller_cap", "Cap that the controller has chosen", _MODEL)
        self.controller_floor = Gauge("adatape_controller_cap_floor", "Smallest cap it may choose", _MODEL)
        self.controller_limit = Gauge("adatape_controller_cap_limit", "Largest cap: the tape capacity", _MODEL)
        self.controller_moves = Counter(
            "adatape_controller_moves_total", "Changes of the controller's cap", ("model", "direction")
        )
        self.rollbacks = Counter("adatape_canary_rollbacks_total", "Canaries sent back for doing worse", _MODEL)
        self.recovery = Histogram(
            "adatape_recovery_seconds",
            "From a fault to its end: an execution that ends well, a turn of the event loop, a process that serves",
            RECOVERY_S,
            ("fault",),
        )
        self.ready = Gauge("adatape_ready", "1 while requests are admitted")
        self.draining = Gauge("adatape_draining", "1 once the server finishes what it has accepted and admits nothing")
        self.background_task_failures = Counter(
            "adatape_background_task_failures_total", "Failed attempts of background tasks", ("task",)
        )
        self.loop_lag_s = Gauge("adatape_event_loop_lag_seconds", "How long the scrape waited for the event loop")
        self.models = Gauge("adatape_model_info", "Families loaded", ("model", "version", "precision", "device"))

    def _declare_connections(self) -> None:
        self.connections = Gauge("adatape_open_connections", "HTTP connections open now")
        self.bodies_bytes = Gauge(
            "adatape_bodies_bytes", "Held of request bodies and messages, beyond the beginning of each call"
        )
        self.bodies_limit_bytes = Gauge("adatape_bodies_limit_bytes", "Beyond which large bodies are refused")
        self.connections_ended = Counter(
            "adatape_connections_ended_total", "HTTP connections that the server ended over a limit", ("reason",)
        )
        self.rpcs_ended = Counter(
            "adatape_rpcs_ended_total", "RPCs, and gRPC connections, that the server ended over a limit", ("reason",)
        )

    def _declare_quality(self) -> None:
        self.expected_correct = Counter(
            "adatape_expected_correct_total", "Answers expected to be right, by the quality curve at their cap", _MODEL
        )
        by_cap = ("model", "cap")
        self.agreement = Gauge(
            "adatape_shadow_agreement_ratio", "Capped answers that name full tape's class, lately", by_cap
        )
        self.agreement_least = Gauge(
            "adatape_shadow_agreement_ratio_min", "Agreement below which load imposes a cap no more"
        )
        self.shadows = Counter(
            "adatape_shadow_comparisons_total",
            "Capped answers compared with full tape, by what came of it",
            (*by_cap, "result"),
        )

    def _declare_tenants(self) -> None:
        """Shown only where callers are told apart."""
        self.tenant_requests = Counter(
            "adatape_tenant_requests_total", "Requests that reached the engine, by outcome", ("tenant", "outcome")
        )
        self.tenant_flops = Counter(
            "adatape_tenant_flops_total",
            "FLOPs of a tenant's answers (useful, padding), and of its work that was not answered (wasted)",
            ("tenant", "kind"),
        )
        self.tenant_wants = Counter(
            "adatape_tenant_samples_total",
            "Samples answered, by the tape that they would have read: the maximum, less, or never asked (unread)",
            ("tenant", "want"),
        )
        self.tenant_quota = Gauge("adatape_tenant_quota_flops", "FLOPs left of a tenant's quota", ("tenant",))
        self.tenant_quota_limit = Gauge(
            "adatape_tenant_quota_limit_flops", "FLOPs that a full quota holds", ("tenant",)
        )
        self.tenants_read = Counter(
            "adatape_tenants_reads_total", "Times that a changed tenants file was read, by what came of it", ("result",)
        )
        self.tenants_last_read_ok = Gauge(
            "adatape_tenants_last_read_ok", "1 while the tenants file holds what is believed, 0 while it is refused"
        )
        self.tls_reads = Counter(
            "adatape_tls_reads_total", "Times that changed certificates were read, by what came of it", ("result",)
        )
        self.tls_last_read_ok = Gauge(
            "adatape_tls_last_read_ok", "1 while the certificate files hold what is served, 0 while they are refused"
        )
        self.quota_syncs = Counter(
            "adatape_quota_syncs_total", "Times that usage was sent to the quota store, by what came of it", ("result",)
        )
