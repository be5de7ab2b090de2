"""The metrics of one loaded version, and of one tenant: what the request path updates for each request.

A meter looks up the series of its labels once, when it is made.
"""

from collections.abc import Callable, Sequence

from server.errors import Cancelled, DeadlineExceeded, Overloaded, ServeError
from server.metrics.definitions import MetricDefinitions
from server.metrics.statistics import Statistics
from server.metrics.version_counts import NO_BUCKET, VersionCounts
from server.models.manifest import Manifest
from server.records import InferAnswer, Receipt

OTHER = "other"
SHED_CAUSES = ("samples", "seconds", "service_level", OTHER)
EXPIRED_CAUSES = ("admission", "waiting", OTHER)
WAITING, BEGUN = "waiting", "begun"
EXPIRED, CANCELLED, FAILED, ABANDONED = "expired", "cancelled", "failed", "abandoned"
CANCELLED_CAUSES = (WAITING, BEGUN)
SAMPLE_FAILURES = (EXPIRED, CANCELLED, FAILED)
WASTE_CAUSES = (*SAMPLE_FAILURES, ABANDONED)


class ModelMeter:
    """Counts what happens to one load of a version."""

    def __init__(self, metrics: MetricDefinitions, manifest: Manifest, version_counts: VersionCounts) -> None:
        model = self.model = manifest.family
        self.statistics = Statistics()
        self.version_counts = version_counts
        self._metrics = metrics
        self._labels = (model, manifest.version, NO_BUCKET)
        places = [("embed", 0), ("read", 0), *(("trunk", bucket) for bucket in manifest.buckets)]
        self._places = {
            (stage, bucket): (
                metrics.batch_size.series(model, stage, str(bucket)),
                metrics.execution.series(model, stage, str(bucket)),
                metrics.prediction.series(model, stage),
                metrics.prediction_error.series(model, stage),
                metrics.executed_flops.cell(model, stage, str(bucket)),
            )
            for stage, bucket in places
        }
        self._admitted, self._shadow_flops, self._wasted_flops = (
            metrics.admitted.cell(model),
            metrics.flops.cell(model, "shadow"),
            metrics.flops.cell(model, "wasted"),
        )
        self._ok = {protocol: cell for (_, protocol, _), cell in metrics.requests.cells(model, None, "ok").items()}
        self._met, self._late = (metrics.slo_answers.cell(model, result) for result in ("met", "late"))
        self._declare()

    def _declare(self) -> None:
        metrics, model = self._metrics, self.model
        metrics.rollbacks.declare([(model,)])
        metrics.controller_moves.declare((model, direction) for direction in ("up", "down"))
        metrics.shed.declare((model, cause) for cause in SHED_CAUSES)
        metrics.expired.declare((model, cause) for cause in EXPIRED_CAUSES)
        metrics.cancelled.declare((model, cause) for cause in CANCELLED_CAUSES)
        metrics.wasted.declare((model, cause) for cause in WASTE_CAUSES)
        for outcome in SAMPLE_FAILURES:
            metrics.sample.series(*self._labels, outcome)
            metrics.executed.series(*self._labels, outcome)

    def asked(self, caps: Sequence[int]) -> None:
        """Count the samples of a request under these caps, before it is admitted or refused."""
        counts = self.version_counts.asked_counts
        for cap in caps:
            counts[cap] += 1

    def admitted(self) -> None:
        """Count an admitted request; `answered` or `failed` follows, exactly once."""
        self._admitted.value += 1

    def executed(self, stage: str, bucket: int, num_samples: int, seconds: float, sample_flops: int) -> None:
        """Count one execution."""
        batch_size, execution, _, _, flops = self._places[stage, bucket]
        batch_size.observe(num_samples)
        execution.observe(seconds)
        flops.value += sample_flops * num_samples
        if stage == "trunk":
            self.statistics.executed(num_samples, seconds)

    def predicted(self, stage: str, bucket: int, predicted_s: float, taken_s: float) -> None:
        """Compare how long an execution kept its instance with the prediction."""
        _, _, prediction, error, _ = self._places[stage, bucket]
        prediction.observe(taken_s / predicted_s)
        error.observe(predicted_s - taken_s)

    def moved(self, *, is_up: bool) -> None:
        """Count a change of the controller's cap."""
        self._metrics.controller_moves.add(1, self.model, "up" if is_up else "down")

    def measured(self, *, is_met: bool) -> None:
        """Count an answer for which the service level holds."""
        (self._met if is_met else self._late).value += 1

    def compared(self, cap: int, *, is_same: bool) -> None:
        """Count a capped answer that was compared with full tape."""
        self._metrics.shadows.add(1, self.model, str(cap), "same" if is_same else "different")

    def shadowed(self, flops: int) -> None:
        """Count FLOPs that ran only for a comparison."""
        self._shadow_flops.value += flops

    def answered(self, protocol: str, answer: InferAnswer, prepare_s: float, trace_id: str = "") -> None:
        """Count an answered request by its receipts; `prepare_s` passed between its arrival and its admission."""
        self.statistics.answered(answer, prepare_s)
        self._ok[protocol].value += 1
        self.version_counts.add(protocol, answer, trace_id)

    def refused(self, protocol: str, error: ServeError, total_s: float) -> None:
        """Count a request that was not admitted, after `total_s`."""
        self._count_error(protocol, error, total_s)
        if isinstance(error, Overloaded):
            self._metrics.shed.add(1, self.model, _known(error.cause, SHED_CAUSES))
        elif isinstance(error, DeadlineExceeded):
            self._metrics.expired.add(1, self.model, _known(error.cause, EXPIRED_CAUSES))

    def failed(self, protocol: str, error: ServeError, spent_flops: Sequence[int], total_s: float) -> None:
        """Count an admitted request that got an error after `total_s`, and the FLOPs spent on each sample."""
        self._count_error(protocol, error, total_s)
        outcome = self._to_outcome(error, sum(spent_flops))
        sample, executed = (h.series(*self._labels, outcome) for h in (self._metrics.sample, self._metrics.executed))
        sample.add(total_s, len(spent_flops))
        executed.observe_all(spent_flops)
        self.wasted(sum(spent_flops), outcome)

    def wasted(self, flops: int, cause: str = ABANDONED) -> None:
        """Count FLOPs that ran for a request that is not, or no longer, to be answered."""
        self._wasted_flops.value += flops
        self._metrics.wasted.add(flops, self.model, cause)

    def _count_error(self, protocol: str, error: ServeError, total_s: float) -> None:
        self.statistics.fail.add(total_s)
        self._metrics.refused(error, protocol=protocol, model=self.model)

    def _to_outcome(self, error: ServeError, flops: int) -> str:
        """Return the outcome of each sample, and count its cause if it has one."""
        if isinstance(error, DeadlineExceeded):
            self._metrics.expired.add(1, self.model, _known(error.cause, EXPIRED_CAUSES))
            return EXPIRED
        if isinstance(error, Cancelled):
            self._metrics.cancelled.add(1, self.model, BEGUN if flops else WAITING)
            return CANCELLED
        return FAILED


class TenantMeter:
    """Counts the requests of one tenant. Tenants come from a file, so their names are safe as labels."""

    def __init__(self, metrics: MetricDefinitions, tenant: str) -> None:
        self._metrics = metrics
        self._tenant = tenant
        self._ok = metrics.tenant_requests.cell(tenant, "ok")
        self._useful, self._padding, self._wasted = (
            metrics.tenant_flops.cell(tenant, kind) for kind in ("useful", "padding", "wasted")
        )
        self._most, self._less, self._unread = (
            metrics.tenant_wants.cell(tenant, want) for want in ("maximum", "less", "unread")
        )

    def answered(self, receipts: Sequence[Receipt], tape_capacity: int, useful_flops: int, executed_flops: int) -> None:
        """Count an answered request, and the tape lengths that its samples wanted."""
        self._ok.value += 1
        self._useful.value += useful_flops
        self._padding.value += executed_flops - useful_flops
        for receipt in receipts:
            wanted = receipt.tape_length_wanted
            cell = self._unread if wanted is None else self._most if wanted >= tape_capacity else self._less
            cell.value += 1

    def refused(self, error: ServeError) -> None:
        """Count a request that got an error."""
        self._metrics.tenant_requests.add(1, self._tenant, error.reason)

    def wasted(self, flops: int) -> None:
        """Count FLOPs that ran without an answer."""
        self._wasted.value += flops

    def watch_quota(self, left: Callable[[], float], burst: Callable[[], float]) -> None:
        """Show what is left of a quota, and its burst."""
        self._metrics.tenant_quota.watch(left, self._tenant)
        self._metrics.tenant_quota_limit.watch(burst, self._tenant)


def _known(cause: str, causes: Sequence[str]) -> str:
    return cause if cause in causes else OTHER
