"""One family's metrics, with the look-ups done beforehand: what the request path touches for each sample."""

from typing import TYPE_CHECKING

from server.errors import ServeError
from server.manifest import Manifest
from server.metrics.statistics import Statistics
from server.records import BudgetReason, InferAnswer, Receipt

if TYPE_CHECKING:
    from server.metrics.metrics import Metrics


class ModelMeter:
    """Counts what happens to one family."""

    def __init__(self, metrics: "Metrics", manifest: Manifest) -> None:
        model = self.model = manifest.family
        self.statistics = Statistics()
        self._metrics = metrics
        self._queue, self._read, self._trunk = (h.series(model) for h in (metrics.queue, metrics.read, metrics.trunk))
        self._useful, self._executed = metrics.useful.series(model), metrics.executed.series(model)
        self._used, self._wanted = metrics.used.series(model), metrics.wanted.series(model)
        self._asked = metrics.asked.series(model)
        stages = [("embed", 0), ("read", 0), *(("trunk", bucket) for bucket in manifest.buckets)]
        self._batch_sizes = {
            (stage, bucket): metrics.batch_size.series(model, stage, str(bucket)) for stage, bucket in stages
        }
        self._predictions = {stage: metrics.prediction.series(model, stage) for stage, _ in stages}
        self._admitted, self._inferences = metrics.admitted.cell(model), metrics.inferences.cell(model)
        self._useful_flops, self._padding_flops, self._wasted_flops, self._shadow_flops = (
            metrics.flops.cell(model, kind) for kind in ("useful", "padding", "wasted", "shadow")
        )
        self._reasons = {reason: metrics.budget_reasons.cell(model, reason.value) for reason in BudgetReason}
        metrics.controller_moves.declare((model, direction) for direction in ("up", "down"))
        metrics.slo_answers.declare((model, result) for result in ("met", "late"))

    def admitted(self) -> None:
        """Count a request let in; `answered` or `failed` follows, exactly once."""
        self._admitted.value += 1

    def executed(self, stage: str, bucket: int, num_samples: int, seconds: float, predicted_s: float) -> None:
        """Count one execution."""
        self._batch_sizes[stage, bucket].observe(num_samples)
        self._predictions[stage].observe(seconds / predicted_s)
        if stage == "trunk":
            self.statistics.executed(num_samples, seconds)

    def moved(self, *, is_up: bool) -> None:
        """Count a change of the controller's cap."""
        self._metrics.controller_moves.add(1, self.model, "up" if is_up else "down")

    def measured(self, *, is_met: bool) -> None:
        """Count an answer for which the service level holds."""
        self._metrics.slo_answers.add(1, self.model, "met" if is_met else "late")

    def compared(self, cap: int, *, is_same: bool) -> None:
        """Count a capped answer that was compared with full tape."""
        self._metrics.shadows.add(1, self.model, str(cap), "same" if is_same else "different")

    def shadowed(self, flops: int) -> None:
        """Count FLOPs that ran for a comparison alone."""
        self._shadow_flops.value += flops

    def answered(self, protocol: str, answer: InferAnswer, asked_caps: list[int], prepare_s: float) -> None:
        """Count an answered request by its receipts; `prepare_s` passed between its arrival and its admission."""
        self.statistics.answered(answer, prepare_s)
        self._metrics.requests.add(1, self.model, protocol, "ok")
        self._inferences.value += len(answer.samples)
        self._metrics.duration.series(self.model, protocol).observe(answer.samples[0].receipt.total_s)
        for asked_cap in asked_caps:
            self._asked.observe(asked_cap)
        for sample in answer.samples:
            self._add_receipt(sample.receipt)

    def failed(self, protocol: str, error: ServeError, wasted_flops: int, total_s: float) -> None:
        """Count a request that got an error, after how long, and what had been spent on it."""
        self.statistics.fail.add(total_s)
        self._metrics.refused(error, protocol=protocol, model=self.model)
        self.wasted(wasted_flops)

    def wasted(self, flops: int) -> None:
        """Count FLOPs that ran for a request that is not, or no longer, to be answered."""
        self._wasted_flops.value += flops

    def _add_receipt(self, receipt: Receipt) -> None:
        self._queue.observe(receipt.queue_s)
        self._read.observe(receipt.read_s)
        self._trunk.observe(receipt.trunk_s)
        self._useful.observe(receipt.useful_flops)
        self._executed.observe(receipt.executed_flops)
        self._used.observe(receipt.tape_length)
        if receipt.tape_length_wanted is not None:
            self._wanted.observe(receipt.tape_length_wanted)
        self._useful_flops.value += receipt.useful_flops
        self._padding_flops.value += receipt.executed_flops - receipt.useful_flops
        self._reasons[receipt.budget_reason].value += 1
