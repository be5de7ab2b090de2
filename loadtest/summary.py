"""The figures of an open run for each cap: cost, quality and latency, and the thresholds for them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import inf, sqrt
from typing import Any

import numpy as np

from loadtest.infer_requests import Answer
from loadtest.load import Outcomes
from loadtest.target import Curve

OK, QUOTA, SHED, EXPIRED = 200, 429, 503, 504
STATUSES: Mapping[str, int] = {"answered": OK, "quota": QUOTA, "shed": SHED, "expired": EXPIRED, "lost": 0}
"""What a status means; any other is an error."""
Z95 = 1.96
DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Run:
    """Everything sent under one cap: `answers[i]` is None where request i got none; it asked about `pictures[i]`."""

    cap: int
    name: str
    duration_s: float
    outcomes: Outcomes
    answers: Sequence[Answer | None]
    pictures: Sequence[int]


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


NOTHING = Interval(0.0, 0.0, 1.0)
"""What is known of a share without a sample."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cap in figures.

    Units: milliseconds, FLOPs a sample, requests a second; shares of all requests sent, save those of what was
    answered: `degraded` and means. Percentiles are of answered requests, infinite where there are none.
    """

    cap: str
    requests: int
    rate: float
    shares: dict[str, float]
    p50_ms: float
    p95_ms: float
    p99_ms: float
    attainment: float
    goodput: float
    degraded: float
    mean_tape: float
    useful_flops: float
    executed_flops: float
    accuracy: Interval
    agreement: Interval
    lag_p99_ms: float

    def flat(self) -> dict[str, Any]:
        """Return the row as one level of names and values, as a CSV wants it."""
        values: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(value, dict):
                joined = {(name if key == "value" else f"{name}_{key}"): each for key, each in value.items()}
                values |= {key.removeprefix("shares_"): each for key, each in joined.items()}
            else:
                values[name] = value
        return values


def sum_up(run: Run, curve: Curve, reference: Sequence[int], slo_s: float) -> Row:
    """Return a run in figures; `reference[picture]` is the class at full tape when nobody else asked."""
    outcomes, given = run.outcomes, [answer for answer in run.answers if answer is not None]
    caps = np.array([answer.cap for answer in given], np.int64)
    return Row(
        cap=run.name,
        requests=len(outcomes.status),
        rate=len(outcomes.status) / run.duration_s,
        shares=_shares(outcomes),
        p50_ms=outcomes.percentile(50) * 1e3,
        p95_ms=outcomes.percentile(95) * 1e3,
        p99_ms=outcomes.percentile(99) * 1e3,
        attainment=outcomes.attainment(slo_s),
        goodput=outcomes.goodput(slo_s, run.duration_s),
        degraded=_mean([answer.budget_reason == DEGRADED for answer in given]),
        mean_tape=_mean([answer.tape_length for answer in given]),
        useful_flops=_mean([answer.useful_flops for answer in given]),
        executed_flops=_mean([answer.executed_flops for answer in given]),
        accuracy=Interval(*(_mean(each[caps]) for each in (curve.accuracy, curve.low, curve.high)))
        if given
        else NOTHING,
        agreement=agreement(run.answers, run.pictures, reference),
        lag_p99_ms=float(np.percentile(outcomes.lag_s, 99)) * 1e3,
    )


def agreement(answers: Sequence[Answer | None], pictures: Sequence[int], reference: Sequence[int]) -> Interval:
    """Return how often answers name the class of the full tape; asking again about a picture is no new sample."""
    seen: dict[int, list[bool]] = {}
    for answer, picture in zip(answers, pictures, strict=True):
        if answer is not None:
            seen.setdefault(picture, []).append(answer.best == reference[picture])
    return wilson(_mean([_mean(each) for each in seen.values()]), len(seen))


def wilson(share: float, num_samples: int) -> Interval:
    """Return the 95 % score interval of a share."""
    if num_samples == 0:
        return NOTHING
    spread = Z95**2 / num_samples
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * sqrt(share * (1 - share) / num_samples + spread / (4 * num_samples))
    # Rounding must not put an end on the wrong side of the share: whiskers have lengths.
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def _shares(outcomes: Outcomes) -> dict[str, float]:
    shares = {name: float((outcomes.status == status).mean()) for name, status in STATUSES.items()}
    return {**shares, "error": float((~np.isin(outcomes.status, list(STATUSES.values()))).mean())}


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a run must keep; None judges nothing."""

    min_attainment: float | None = None
    max_p99_ms: float | None = None
    max_failed: float | None = None
    min_agreement: float | None = None

    def misses(self, rows: Sequence[Row]) -> list[str]:
        """Return a line for each threshold that a cap misses."""
        return [line for row in rows for line in self._misses(row)]

    def _misses(self, row: Row) -> list[str]:
        failed = 1 - row.shares["answered"]
        checks = [
            Check("attainment", row.attainment, self.min_attainment),
            Check("p99 ms", row.p99_ms, self.max_p99_ms, is_least=False),
            Check("failed", failed, self.max_failed, is_least=False),
            Check("agreement", row.agreement.value, self.min_agreement),
        ]
        return [f"cap {row.cap}: {check}" for check in checks if not check.is_met]


@dataclass(frozen=True, slots=True)
class Check:
    """A figure beside its threshold."""

    name: str
    value: float
    threshold: float | None
    is_least: bool = field(default=True)

    @property
    def is_met(self) -> bool:
        if self.threshold is None:
            return True
        return self.value >= self.threshold if self.is_least else self.value <= self.threshold

    def __str__(self) -> str:
        value = "none answered" if self.value == inf else f"{self.value:.4g}"
        return f"{self.name}; got {value}; expected {'at least' if self.is_least else 'at most'} {self.threshold:g}"
