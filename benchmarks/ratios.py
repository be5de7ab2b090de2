"""Two sides measured in turn, A B A B, and compared by the median of the ratios of neighbours.

On a machine that others use too, speed drifts; neighbours in time drift together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Paired:
    """Measurements of two sides, taken in turn; each `a[i]` just before its `b[i]`."""

    a: list[float]
    b: list[float]

    @property
    def ratios(self) -> list[float]:
        """Return each B over the mean of the As around it, and its own A at the end."""
        around = [(self.a[i] + self.a[min(i + 1, len(self.a) - 1)]) / 2 for i in range(len(self.a))]
        return [b / a for a, b in zip(around, self.b, strict=True)]

    @property
    def ratio(self) -> float:
        """Return the median of B / A."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """Return the smallest and the largest ratio."""
        return min(self.ratios), max(self.ratios)


def alternate(a: Callable[[], float], b: Callable[[], float], rounds: int) -> Paired:
    """Measure A and B in turn, `rounds` times."""
    measured = Paired([], [])
    for _ in range(rounds):
        measured.a.append(a())
        measured.b.append(b())
    return measured


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return n, p50, p95 and p99; times in milliseconds. A percentile is a measured value, never between two.

    Raises: ValueError if there is nothing to take them of.
    """
    if not seconds:
        raise ValueError("latencies; got none; expected at least one")
    ordered = sorted(seconds)
    last = len(ordered) - 1

    def at(q: float) -> float:
        return ordered[min(last, int(q * len(ordered)))] * 1e3

    return {"n": len(ordered), "p50_ms": at(0.50), "p95_ms": at(0.95), "p99_ms": at(0.99)}


def r_squared(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Fit y = intercept + slope * x by least squares; return intercept, slope and R²."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    ss_x = sum((value - mean_x) ** 2 for value in x)
    ss_y = sum((value - mean_y) ** 2 for value in y)
    slope = sum((u - mean_x) * (v - mean_y) for u, v in zip(x, y, strict=True)) / ss_x
    intercept = mean_y - slope * mean_x
    residual = sum((v - intercept - slope * u) ** 2 for u, v in zip(x, y, strict=True))
    return intercept, slope, 1 - residual / ss_y
