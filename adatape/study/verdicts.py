"""What the results say of each claim, by rule: shown, not shown, or contradicted."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from adatape.curve import Z_95
from adatape.study.tables import NOT_RUN, Rate, Result, Seeds, accuracy

Gathered = Mapping[tuple[str, str], Seeds]
SHOWN, NOT_SHOWN, CONTRADICTED = "shown", "not shown", "contradicted"
CHANCE_MARGIN = 0.05
"""How far from one half an accuracy on parity may be and still count as chance."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim, what became of it, and the numbers; `number` is that of the authors' claim it belongs to."""

    claim: str
    verdict: str
    evidence: str
    number: str = ""


def numbered(number: str, *verdicts: Verdict) -> list[Verdict]:
    """Return verdicts as belonging to a claim of the authors."""
    return [replace(verdict, number=number) for verdict in verdicts]


def difference(ours: Seeds, theirs: Seeds, figure: Callable[[Result], float] = accuracy) -> tuple[float, float]:
    """Return the difference of two accuracies and half its 95 % interval, from test samples pooled over seeds."""
    means = [(seeds.mean(figure), seeds.num_samples) for seeds in (ours, theirs)]
    variance = sum(mean * (1 - mean) / count for mean, count in means)
    return means[0][0] - means[1][0], Z_95 * math.sqrt(variance)


def compare(
    claim: str, ours: Seeds | None, theirs: Seeds | None, figure: Callable[[Result], float] = accuracy
) -> Verdict:
    """Judge that ours is better: the interval must exclude 0, and the worst seed of one beat the best of the other."""
    if ours is None or theirs is None:
        return Verdict(claim, NOT_RUN, "")
    gap, half = difference(ours, theirs, figure)
    evidence = (
        f"{ours.variant} {100 * ours.mean(figure):.1f} %, {theirs.variant} {100 * theirs.mean(figure):.1f} %: "
        f"{100 * gap:+.1f} ± {100 * half:.1f} points, {len(ours.results)} and {len(theirs.results)} seeds"
    )
    return Verdict(
        claim, with_seeds(judge(gap, half, ours.values(figure), theirs.values(figure)), ours, theirs), evidence
    )


def with_seeds(verdict: str, *rows: Seeds) -> str:
    """Return the verdict, saying so where it rests on a single seed of any row."""
    is_single = any(len(seeds.results) < 2 for seeds in rows)
    return f"{verdict}, one seed" if is_single and verdict in (SHOWN, CONTRADICTED) else verdict


def judge(gap: float, half: float, ours: list[float], theirs: list[float]) -> str:
    """Say whether ours is better, given the difference, half its interval, and the values of all seeds."""
    if gap > half and min(ours) > max(theirs):
        return SHOWN
    return CONTRADICTED if gap < -half and max(ours) < min(theirs) else NOT_SHOWN


def at_least(
    claim: str, aim: float, several: Mapping[str, Seeds | None], figure: Callable[[Result], float] = accuracy
) -> Verdict:
    """Judge that every seed of every row reaches an accuracy; rows that were not run are told."""
    ran = {name: seeds for name, seeds in several.items() if seeds is not None}
    if not ran:
        return Verdict(claim, NOT_RUN, "")
    worst = {name: min(seeds.values(figure)) for name, seeds in ran.items()}
    verdict = CONTRADICTED if min(worst.values()) < aim else SHOWN if len(ran) == len(several) else NOT_SHOWN
    evidence = ", ".join(f"{name}: {100 * value:.1f} %" for name, value in worst.items())
    seeds = "/".join(str(len(seeds.results)) for seeds in ran.values())
    missing = ", ".join(name for name in several if name not in ran)
    verdict = with_seeds(verdict, *ran.values()) if verdict == SHOWN else verdict
    return Verdict(
        claim, verdict, f"worst seed at {evidence}; seeds {seeds}" + f"; {NOT_RUN}: {missing}" * bool(missing)
    )


def at_chance(claim: str, several: Mapping[str, Seeds | None]) -> Verdict:
    """Judge that no seed of any row is far from one half."""
    ran = {name: seeds for name, seeds in several.items() if seeds is not None}
    if not ran:
        return Verdict(claim, NOT_RUN, "")
    best = {name: max(seeds.values(accuracy)) for name, seeds in ran.items()}
    verdict = (
        CONTRADICTED if max(best.values()) > 0.5 + CHANCE_MARGIN else SHOWN if len(ran) == len(several) else NOT_SHOWN
    )
    evidence = ", ".join(f"{name} {100 * value:.1f} %" for name, value in best.items())
    missing = ", ".join(name for name in several if name not in ran)
    verdict = with_seeds(verdict, *ran.values()) if verdict == SHOWN else verdict
    return Verdict(claim, verdict, f"best seed of {evidence}" + f"; {NOT_RUN}: {missing}" * bool(missing))


def faster(claim: str, ours: Rate | None, theirs: Mapping[str, Rate | None]) -> Verdict:
    """Judge that our slowest measurement beats the fastest of every other; what was not measured is told."""
    measured = {name: rate for name, rate in theirs.items() if rate is not None}
    if ours is None or not measured:
        return Verdict(claim, NOT_RUN, "")
    is_ahead = all(ours.low > rate.high for rate in measured.values())
    is_behind = all(ours.high < rate.low for rate in measured.values())
    verdict = SHOWN if is_ahead and len(measured) == len(theirs) else CONTRADICTED if is_behind else NOT_SHOWN
    evidence = f"{ours} images/s against " + ", ".join(f"{name} {rate}" for name, rate in measured.items())
    missing = ", ".join(name for name in theirs if name not in measured)
    return Verdict(claim, verdict, evidence + f"; {NOT_RUN}: {missing}" * bool(missing))


def above_one(claim: str, ratios: Mapping[str, tuple[float, float, float]]) -> Verdict:
    """Judge that ratios are above 1 with their whole interval; each is (value, low, high)."""
    if not ratios:
        return Verdict(claim, NOT_RUN, "")
    lows, highs = [low for _, low, _ in ratios.values()], [high for _, _, high in ratios.values()]
    verdict = SHOWN if min(lows) > 1 else CONTRADICTED if max(highs) < 1 else NOT_SHOWN
    evidence = ", ".join(f"{name} {ratio:.2f} ({low:.2f} to {high:.2f})" for name, (ratio, low, high) in ratios.items())
    return Verdict(claim, verdict, evidence)
