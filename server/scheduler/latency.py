"""What an execution will take: the manifest's measured table, filled in between and corrected by what is seen."""

from bisect import bisect_left, bisect_right
from itertools import accumulate

from server.models.manifest import Flops, Manifest

Key = tuple[str, int]
"""A stage and a bucket; the reader's stages have bucket 0."""

CORRECTION_RATE = 0.05
CORRECTION_LIMITS = (0.1, 10.0)
OUTLIER = 3.0
"""How much dearer or cheaper than predicted one execution may count: a paused machine must not teach nonsense."""
OVERHEAD_STEP_S = 0.25e-3
"""How finely the overhead is told apart where batch sizes are chosen by it."""
FIRST_SPREAD = 0.1
"""How far off predictions are taken to be until executions have shown it."""


class LatencyModel:
    """Predicted seconds of an execution by stage, bucket and batch size.

    Between measured batch sizes the cost is linear, and it never falls as a batch grows. A pair that was not measured
    is estimated from its FLOPs. A factor for each pair and one overhead for all follow the executions observed, and a
    spread their scatter. What a large batch takes beyond its prediction teaches the factor, what a single sample takes
    teaches both: a handful of samples on a quiet server says little of how long a full batch will run.

    Units: `overhead_s` is what every execution takes beside its rows.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._measured: dict[Key, list[tuple[int, float]]] = {}
        for entry in manifest.latency.entries:
            self._measured.setdefault((entry.stage, entry.bucket), []).append((entry.batch, entry.p50_s))
        for points in self._measured.values():
            points.sort()
        self._flops = manifest.flops
        self._s_per_flop = self._mean_s_per_flop()
        self._factors: dict[Key, float] = {}
        self._tables: dict[Key, list[float]] = {}
        self.overhead_s = 0.0
        self.spread = FIRST_SPREAD
        """Mean distance of an execution from its prediction, as a fraction of it."""

    def predict_s(self, stage: str, bucket: int, batch: int) -> float:
        """Return the seconds that an execution of `batch` samples should take."""
        key = (stage, bucket)
        return self._table(key, batch)[batch - 1] * self._factors.get(key, 1.0) + self.overhead_s

    def fit(self, stage: str, bucket: int, seconds: float, limit: int) -> int:
        """Return the largest batch, of at most `limit`, that should take no longer than this; 0 if none."""
        key = (stage, bucket)
        rows_s = (seconds - self.overhead_s) / self._factors.get(key, 1.0)
        return bisect_right(self._table(key, limit), rows_s, hi=limit)

    @property
    def overhead_in_steps_s(self) -> float:
        """Return the overhead in whole steps, so that what is worked out from it need not be at every execution."""
        return round(self.overhead_s / OVERHEAD_STEP_S) * OVERHEAD_STEP_S

    def table(self, stage: str, bucket: int, limit: int) -> list[float]:
        """Return the seconds by batch size, from 1 to `limit`, without the overhead."""
        factor = self._factors.get((stage, bucket), 1.0)
        return [rows_s * factor for rows_s in self._table((stage, bucket), limit)[:limit]]

    def observe(self, stage: str, bucket: int, batch: int, actual_s: float) -> None:
        """Move the pair's factor and the overhead a little towards what an execution really took."""
        key = (stage, bucket)
        low, high = CORRECTION_LIMITS
        predicted_s, factor = self.predict_s(stage, bucket, batch), self._factors.get(key, 1.0)
        ratio = min(max(actual_s / predicted_s, 1 / OUTLIER), OUTLIER)
        error_s = CORRECTION_RATE * (ratio - 1) * predicted_s
        rows_s, one_s = self._table(key, batch)[batch - 1], self._table(key, batch)[0]
        share = rows_s**2 / (rows_s**2 + one_s**2)
        self._factors[key] = min(max(factor + share * error_s / rows_s, low), high)
        self.overhead_s = max(0.0, self.overhead_s + (1 - share) * error_s)
        self.spread += CORRECTION_RATE * (min(abs(ratio - 1), 1.0) - self.spread)

    def _table(self, key: Key, batch: int) -> list[float]:
        """Return the pair's seconds by batch size, at least up to `batch`."""
        table = self._tables.get(key)
        if table is None or len(table) < batch:
            rows = range(1, max(batch, 2 * len(table or ())) + 1)
            table = self._tables[key] = list(accumulate((self._estimate_s(key, row) for row in rows), max))
        return table

    def _estimate_s(self, key: Key, batch: int) -> float:
        points = self._measured.get(key)
        return _interpolate(points, batch) if points else flops_of(self._flops, *key) * batch * self._s_per_flop

    def _mean_s_per_flop(self) -> float:
        """Average over what was measured; the schema promises at least one entry."""
        rates = [
            seconds / (max(flops_of(self._flops, *key), 1) * batch)
            for key, points in self._measured.items()
            for batch, seconds in points
        ]
        return sum(rates) / len(rates)


def flops_of(flops: Flops, stage: str, bucket: int) -> int:
    """Return the FLOPs that one row of an execution runs."""
    return flops.trunk[bucket] if stage == "trunk" else flops.read_executed(is_reading=stage == "read")


def _interpolate(points: list[tuple[int, float]], batch: int) -> float:
    """Follow the line between neighbours; below the first point cost what it does, beyond the last grow with rows."""
    right = bisect_left(points, (batch, 0.0))
    if right == 0:
        return points[0][1]
    if right == len(points):
        return points[-1][1] * batch / points[-1][0]
    (batch_0, seconds_0), (batch_1, seconds_1) = points[right - 1], points[right]
    return seconds_0 + (seconds_1 - seconds_0) * (batch - batch_0) / (batch_1 - batch_0)
