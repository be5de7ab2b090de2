"""Readings of what a server counts only after it has answered."""

from dataclasses import replace

import pytest

from loadtest.conformance import target as module
from loadtest.conformance.target import Target


@pytest.fixture
def quiet(target: Target) -> Target:
    return replace(target, seen=["200"])


def test_what_comes_late_is_waited_for_and_seen_once(quiet: Target) -> None:
    readings = iter([1, 1, 2])

    def read() -> int:
        quiet.seen.append("200")
        return next(readings)

    assert quiet.settled(read, lambda found: found > 1) == 2
    assert quiet.seen == ["200", "200"]


def test_what_never_comes_is_returned_as_it_is(quiet: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.05)
    assert quiet.settled(lambda: 1, lambda found: found > 1) == 1
