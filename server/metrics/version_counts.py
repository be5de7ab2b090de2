"""What the receipts of one version add up to, counted many at a time, and the counts of all versions that are loaded.

A receipt costs the request path one `append`. Most of its facts are small integers that many receipts share. Equal
receipts are counted first, and each kind is added to the metrics once: that takes a fraction of the time that adding
each receipt by itself would take.
"""

from collections import Counter as Multiset
from collections import defaultdict
from collections.abc import Callable, Iterator
from operator import attrgetter

import numpy as np

from server.metrics.definitions import MetricDefinitions
from server.metrics.metric_types import Cell, ExemplarLabel, to_tape_edges
from server.models.manifest import Manifest
from server.records import BudgetReason, InferAnswer, Receipt

FLUSH_EVERY = 256
"""Receipts that are kept at most. Grouping them blocks the event loop for well under a millisecond."""
MAX_FACTS = 2048
"""Kinds of receipts that are kept apart at most."""
MAX_LABEL_LENGTH = 100
"""OpenMetrics allows an exemplar 128 characters, names of labels included."""
FADE = 0.999
"""How much of the known attainment remains after each answer."""
MAX_RETIRED = 4
"""Versions of one family whose series are still shown after their last load: a scrape sees what they counted in the
end, and a version that comes back goes on counting. Without a limit, memory and `/metrics` grow with each version."""

OK, DEGRADED = "ok", "degraded"
NO_BUCKET = "none"
DEGRADED_CAUSES = {
    BudgetReason.DEGRADED: "controller",
    BudgetReason.DEADLINE: "deadline",
    BudgetReason.QUOTA: "quota",
}
PADDING_CAUSES = ("read", "bucket", "riding")
"""The reader runs all its steps, a bucket is longer than the tape, a larger bucket had room."""

_FACTS: Callable[[Receipt], tuple[str, int, int, int | None, int, int, int]] = attrgetter(
    "budget_reason._value_", "cap", "tape_length", "tape_length_wanted", "bucket", "useful_flops", "executed_flops"
)


class VersionCounts:
    """Receipts of one version that wait to be counted, and the series that they move."""

    def __init__(self, metrics: MetricDefinitions, manifest: Manifest) -> None:
        model, version, capacity = manifest.family, manifest.version, manifest.tape_capacity
        self.manifest = manifest
        self.mean_flops: Callable[[], list[float]] | None = None
        """Gives, by cap, the FLOPs that a sample is expected to take; without it demanded FLOPs are not counted."""
        self.asked_counts = [0] * (capacity + 1)
        """Samples asked for since the last flush, by cap."""
        self._receipts: list[Receipt] = []
        self._requests: list[tuple[str, float, str, str]] = []
        self._facts: Multiset[tuple[str, int, int, int | None, int, int, int]] = Multiset()
        self._accuracies = _accuracies(manifest)
        self._metrics = metrics
        self._labels = (model, version)
        self._queue, self._read, self._trunk = (h.series(model) for h in (metrics.queue, metrics.read, metrics.trunk))
        edges = to_tape_edges(capacity)
        self._used, self._wanted, self._cap, self._asked = (
            h.series(model, edges=edges) for h in (metrics.used, metrics.wanted, metrics.cap, metrics.asked)
        )
        self._inferences, self._demanded = metrics.inferences.cell(model), metrics.demanded_flops.cell(model)
        self._useful_flops, self._padding_flops = (metrics.flops.cell(model, kind) for kind in ("useful", "padding"))
        self._padding = [metrics.padding.cell(model, cause) for cause in PADDING_CAUSES]
        self._reasons = {reason.value: metrics.budget_reasons.cell(model, reason.value) for reason in BudgetReason}
        self._degraded: dict[str, Cell] = {
            reason.value: metrics.degraded.cell(model, cause) for reason, cause in DEGRADED_CAUSES.items()
        }
        self._expected_correct = metrics.expected_correct.cell(model)
        self._slo_cells = [metrics.slo_answers.cell(model, result) for result in ("met", "late")]
        self._slo_seen = [cell.value for cell in self._slo_cells]
        self._slo_weight = self._slo_met = 0.0
        for bucket in manifest.buckets:
            for outcome in (OK, DEGRADED):
                for histogram in (metrics.sample, metrics.useful, metrics.executed):
                    histogram.series(model, version, str(bucket), outcome)

    def add(self, protocol: str, answer: InferAnswer, trace_id: str) -> None:
        """Take the receipts of an answered request."""
        receipts = self._receipts
        for sample in answer.samples:
            receipts.append(sample.receipt)
        self._requests.append((protocol, answer.samples[0].receipt.total_s, answer.request_id, trace_id))
        if len(receipts) >= FLUSH_EVERY:
            self._group_receipts()
            if len(self._facts) > MAX_FACTS:
                self.flush()

    def attainment(self) -> float:
        """Return the share of answers within the service level, lately; 1 before there were any."""
        return self._slo_met / self._slo_weight if self._slo_weight else 1.0

    def flush(self) -> None:
        """Add all that waits to the metrics: to be called before a scrape reads them."""
        self._group_receipts()
        for facts, count in self._facts.items():
            self._add_facts(count, *facts)
        self._facts.clear()
        if any(self.asked_counts):
            self._add_asked()
        self._add_attainment()

    def _group_receipts(self) -> None:
        """Add up the times of the waiting receipts, and count those that are equal in all other facts."""
        receipts, requests = self._receipts, self._requests
        self._receipts, self._requests = [], []
        self._inferences.value += len(receipts)
        self._add_requests(requests)
        self._add_times(receipts)
        self._facts.update(map(_FACTS, receipts))

    def _add_requests(self, requests: list[tuple[str, float, str, str]]) -> None:
        by_protocol = defaultdict(list)
        for request in requests:
            by_protocol[request[0]].append(request)
        for protocol, mine in by_protocol.items():
            totals_s = [total_s for _, total_s, _, _ in mine]
            series = self._metrics.duration.series(self.manifest.family, protocol)
            series.observe_all(totals_s)
            series.set_exemplars(
                totals_s, [_exemplar_label(request_id, trace_id) for _, _, request_id, trace_id in mine]
            )

    def _add_times(self, receipts: list[Receipt]) -> None:
        self._queue.observe_all([receipt.queue_s for receipt in receipts])
        self._read.observe_all([receipt.read_s for receipt in receipts])
        self._trunk.observe_all([receipt.trunk_s for receipt in receipts])
        groups: dict[tuple[int, str], list[float]] = defaultdict(list)
        for receipt in receipts:
            groups[receipt.bucket, receipt.budget_reason].append(receipt.total_s)
        for (bucket, reason), totals_s in groups.items():
            outcome = DEGRADED if reason in self._degraded else OK
            self._metrics.sample.series(*self._labels, str(bucket), outcome).observe_all(totals_s)

    def _add_facts(
        self,
        count: int,
        reason: str,
        cap: int,
        tape: int,
        wanted: int | None,
        bucket: int,
        useful: int,
        executed: int,
    ) -> None:
        """Count receipts that differ in their times alone."""
        labels = (*self._labels, str(bucket), DEGRADED if reason in self._degraded else OK)
        self._metrics.useful.series(*labels).add(useful, count)
        self._metrics.executed.series(*labels).add(executed, count)
        self._used.add(tape, count)
        self._cap.add(cap, count)
        if wanted is not None:
            self._wanted.add(wanted, count)
        self._useful_flops.value += useful * count
        self._padding_flops.value += (executed - useful) * count
        for cell, flops in zip(self._padding, self._padding_of(tape, bucket, executed - useful), strict=True):
            cell.value += flops * count
        self._reasons[reason].value += count
        if reason in self._degraded:
            self._degraded[reason].value += count
        self._expected_correct.value += self._accuracies[cap] * count

    def _padding_of(self, length: int, bucket: int, padding: int) -> tuple[int, int, int]:
        """Return a sample's padding by cause, in the order of `PADDING_CAUSES`; they add up to all of it."""
        trunk, own_bucket = self.manifest.flops.trunk, self.manifest.bucket_for(length)
        by_bucket, by_riding = trunk[own_bucket] - trunk[length], trunk[bucket] - trunk[own_bucket]
        return padding - by_bucket - by_riding, by_bucket, by_riding

    def _add_asked(self) -> None:
        mean_flops = self.mean_flops() if self.mean_flops is not None else [0.0] * len(self.asked_counts)
        for cap, count in enumerate(self.asked_counts):
            if count:
                self._asked.add(cap, count)
                self._demanded.value += round(mean_flops[cap] * count)
        self.asked_counts = [0] * len(self.asked_counts)

    def _add_attainment(self) -> None:
        now = [cell.value for cell in self._slo_cells]
        met, late = (new - old for new, old in zip(now, self._slo_seen, strict=True))
        self._slo_seen = now
        keep = FADE ** (met + late)
        self._slo_weight = keep * self._slo_weight + met + late
        self._slo_met = keep * self._slo_met + met


class VersionCountsRegistry:
    """The counts of each version that is loaded, and of the last `MAX_RETIRED` of each family that were unloaded."""

    def __init__(self, metrics: MetricDefinitions) -> None:
        self._metrics = metrics
        self._counts: dict[tuple[str, str], VersionCounts] = {}
        self._num_loads: Multiset[tuple[str, str]] = Multiset()
        self._retired: dict[tuple[str, str], None] = {}
        """Versions that are not loaded, the one that went first in front."""

    def __iter__(self) -> Iterator[VersionCounts]:
        return iter(self._counts.values())

    def open(self, manifest: Manifest) -> VersionCounts:
        """Return the counts of a version. All loads of a version share them, so that none of its counts is lost."""
        place = (manifest.family, manifest.version)
        self._num_loads[place] += 1
        self._retired.pop(place, None)
        former = self._counts.get(place)
        if former is None or former.manifest != manifest:
            if former is not None:
                former.flush()
            self._counts[place] = VersionCounts(self._metrics, manifest)
        return self._counts[place]

    def close(self, manifest: Manifest) -> None:
        """Note that a load of a version is over and all its requests are settled; drop counts beyond `MAX_RETIRED`."""
        place = (manifest.family, manifest.version)
        self._num_loads[place] -= 1
        if self._num_loads[place] > 0:
            return
        del self._num_loads[place]
        counts = self._counts[place]
        counts.flush()
        counts.mean_flops = None  # it holds on to the load's predictions
        self._retired[place] = None
        mine = [each for each in self._retired if each[0] == manifest.family]
        for each in mine[:-MAX_RETIRED]:
            self._forget(*each)

    def _forget(self, family: str, version: str) -> None:
        del self._retired[family, version], self._counts[family, version]
        for histogram in (self._metrics.sample, self._metrics.useful, self._metrics.executed):
            histogram.forget(family, version)


def _exemplar_label(request_id: str, trace_id: str) -> ExemplarLabel:
    return ("trace_id", trace_id) if trace_id else ("request_id", request_id[:MAX_LABEL_LENGTH])


def _accuracies(manifest: Manifest) -> list[float]:
    """Return the quality curve's accuracy by cap, on the line between its points."""
    points = sorted(manifest.quality.points, key=lambda point: point.cap)
    caps, known = [point.cap for point in points], [point.accuracy for point in points]
    accuracies: list[float] = np.interp(range(manifest.tape_capacity + 1), caps, known).tolist()
    return accuracies
