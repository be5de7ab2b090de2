"""Compares two servers: where they differ, and whether that is intended."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.conformance.deliberate import DELIBERATE
from loadtest.conformance.runner import Result, Verdict


@dataclass(frozen=True, slots=True)
class Difference:
    """A check that came out differently; `reason` is None where nobody has said why."""

    name: str
    first: Result
    second: Result
    reason: str | None

    @property
    def is_explained(self) -> bool:
        return self.reason is not None


def compare(first: Mapping[str, Result], second: Mapping[str, Result]) -> list[Difference]:
    """Return the checks that ran on both servers and differ in verdict, or in what the servers were seen to do."""
    return [
        Difference(name, result, second[name], DELIBERATE.get(name))
        for name, result in first.items()
        if name in second and _is_different(result, second[name])
    ]


def _is_different(one: Result, other: Result) -> bool:
    if Verdict.SKIP in {one.verdict, other.verdict}:
        return False
    return (one.verdict, one.seen) != (other.verdict, other.seen)
