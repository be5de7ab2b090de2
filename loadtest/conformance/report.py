"""The kit's reports: text for people and JSON for programs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from loadtest.conformance.differences import Difference
from loadtest.conformance.runner import Result, Verdict


def line(result: Result) -> str:
    """Return one line for one check."""
    text = f"{result.verdict.value}  {result.check.level.value:13}  {result.check.name}"
    return f"{text}\n      {result.check.statement}\n      {result.reason}" if result.verdict is Verdict.FAIL else text


def summary(results: Sequence[Result]) -> str:
    """Return the counts by verdict, and by level where something failed."""
    counts = Counter(result.verdict for result in results)
    failed = Counter(result.check.level.value for result in results if result.verdict is Verdict.FAIL)
    by_level = ", ".join(f"{number} {level}" for level, number in sorted(failed.items()))
    text = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
    return f"{len(results)} checks: {text}" + (f" ({by_level})" if by_level else "")


def difference_lines(differences: Iterable[Difference]) -> list[str]:
    """Return a few lines for each difference, the unexplained first."""
    lines = []
    for each in sorted(differences, key=lambda difference: difference.is_explained):
        lines.append(f"{'meant' if each.is_explained else 'DIFFERS':7}  {each.name}")
        for name, result in (("first", each.first), ("second", each.second)):
            seen = ", ".join(result.seen) or "nothing"
            lines.append(f"         {name:6} {result.verdict.value}: {seen[:120]} {result.reason[:160]}".rstrip())
        if each.reason:
            lines.append(f"         {each.reason}")
    return lines


def to_json(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return results as plain objects."""
    return [
        {
            "name": result.check.name,
            "level": result.check.level.value,
            "statement": result.check.statement,
            "source": result.check.source,
            "verdict": result.verdict.value,
            "reason": result.reason,
            "seen": list(result.seen),
            "seconds": round(result.seconds, 4),
        }
        for result in results
    ]
