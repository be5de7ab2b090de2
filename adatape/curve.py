"""The quality curve: accuracy, tape and FLOPs for each cap on one data split.

Shape legend: P points (caps), N samples.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from adatape.checkpoint import read_json
from adatape.flops import StageFlops

Z_95 = 1.959963984540054
MAX_ACCURACY_DIFFERENCE = 0.002
MAX_TAPE_DIFFERENCE = 0.05
MAX_FLOPS_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class SplitId:
    """Which samples: data source, split, and the digest of what they are."""

    data: str
    split: str
    data_digest: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Quality and cost with every tape capped at `cap`; the interval is 95 % Wilson, FLOPs are useful ones."""

    cap: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    mean_tape_length: float
    mean_tape_length_wanted: float
    mean_flops: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve; `histogram[t]` counts the samples that want a tape of t tokens."""

    data: str
    split: str
    data_digest: str
    num_samples: int
    points: tuple[CurvePoint, ...]
    histogram: tuple[int, ...] = ()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a curve from its JSON.

        Raises: ValueError if it is not a curve.
        """
        try:
            points = tuple(CurvePoint(**point) for point in data["points"])
            histogram = tuple(data.get("histogram", ()))
            return cls(data["data"], data["split"], data["data_digest"], data["num_samples"], points, histogram)
        except (KeyError, TypeError) as error:
            raise ValueError(f"quality curve; got {type(error).__name__} {error}; expected a curve's fields") from error


def build_curve(
    samples: SplitId, caps: Sequence[int], correct_PN: NDArray[np.bool_], wanted_N: NDArray[np.int64], flops: StageFlops
) -> Curve:
    """Summarise what a model got right at each cap, and how long a tape each sample wants."""
    points = tuple(_point(cap, correct_N, wanted_N, flops) for cap, correct_N in zip(caps, correct_PN, strict=True))
    counts = np.bincount(wanted_N, minlength=len(flops.trunk))
    return Curve(**asdict(samples), num_samples=len(wanted_N), points=points, histogram=tuple(counts.tolist()))


def _point(cap: int, correct_N: NDArray[np.bool_], wanted_N: NDArray[np.int64], flops: StageFlops) -> CurvePoint:
    used_N = np.minimum(wanted_N, cap)
    by_length = np.array([flops.total(length, cap) for length in range(len(flops.trunk))])
    low, high = wilson_interval(int(correct_N.sum()), len(correct_N))
    return CurvePoint(
        cap,
        float(correct_N.mean()),
        low,
        high,
        float(used_N.mean()),
        float(wanted_N.mean()),
        float(by_length[used_N].mean()),
    )


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion.

    Source: Wilson 1927.
    """
    share, z2 = successes / trials, Z_95**2
    centre = share + z2 / (2 * trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    low, high = ((centre + sign * half) / (1 + z2 / trials) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def read_curve(path: Path) -> Curve:
    """Read a curve from a `curve.json`, a `test.json`, or the manifest of a family.

    Raises: ValueError if the file holds none; OSError if it cannot be read.
    """
    data = read_json(path)
    return Curve.from_dict(data.get("quality", data))


def differences(expected: Curve, found: Curve) -> list[str]:
    """Say where a curve measured anew differs from an earlier one; empty when it holds."""
    names = ("split", "data_digest", "num_samples")
    pairs = [(name, getattr(found, name), getattr(expected, name)) for name in names]
    lines = [f"{name}; got {ours}; expected {theirs}" for name, ours, theirs in pairs if ours != theirs]
    points = {point.cap: point for point in found.points}
    for point in expected.points:
        missing = [f"cap {point.cap}; got none; expected a point"]
        lines += _point_differences(point, points[point.cap]) if point.cap in points else missing
    return lines


def _point_differences(expected: CurvePoint, found: CurvePoint) -> list[str]:
    allowed = {
        "accuracy": MAX_ACCURACY_DIFFERENCE,
        "mean_tape_length": MAX_TAPE_DIFFERENCE,
        "mean_tape_length_wanted": MAX_TAPE_DIFFERENCE,
        "mean_flops": MAX_FLOPS_SHARE * expected.mean_flops,
    }
    lines = []
    for name, limit in allowed.items():
        ours, theirs = getattr(found, name), getattr(expected, name)
        if not abs(ours - theirs) <= limit:
            lines.append(f"{name} at cap {expected.cap}; got {ours:.4f}; expected {theirs:.4f} +- {limit}")
    return lines
