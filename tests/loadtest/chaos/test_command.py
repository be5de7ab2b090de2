"""The chaos harness: quick scenarios pass against this server, and a broken promise fails."""

import sys
from pathlib import Path

import pytest

from loadtest.chaos import __main__ as command
from loadtest.chaos.ground import MARK, MARKS, picture
from loadtest.chaos.registry import Broken, Scenario, all_scenarios, promise
from server.backends import faults
from tests.e2e.booting import ROOT

QUICK = (
    "a_batch_that_raises",
    "logits_that_are_nan",
    "a_batch_that_does_not_fit_into_memory",
    "a_stop_signal_under_load",
)


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["chaos", *arguments])
    return command.main()


def test_quick_scenarios_pass(monkeypatch, capsys, tmp_path):
    report = tmp_path / "results" / "chaos.md"
    assert run(monkeypatch, "--only", *QUICK, "--report", str(report)) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"chaos: PASS: {len(QUICK)} of {len(QUICK)} scenarios"
    assert report.read_text().count("| PASS |") == len(QUICK)


def test_a_broken_promise_fails(monkeypatch, capsys):
    async def play(ground) -> str:
        promise(False, 1, "2")
        return "unreachable"

    monkeypatch.setattr(command, "all_scenarios", lambda: [Scenario("broken", "It breaks.", play)])
    assert run(monkeypatch) == 1
    out = capsys.readouterr().out
    assert "FAIL  broken" in out
    assert "got 1; expected 2" in out
    assert "chaos: FAIL: 0 of 1 scenarios" in out


def test_playing_nothing_is_no_pass(monkeypatch, capsys):
    assert run(monkeypatch, "--only", "no_such_scenario") == 1
    assert "chaos: FAIL: 0 of 0 scenarios" in capsys.readouterr().out


def test_promises():
    promise(True, 1, "1")
    with pytest.raises(Broken, match="got 1; expected 2"):
        promise(False, 1, "2")


def test_scenarios_are_listed_with_their_statements(monkeypatch, capsys):
    assert run(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(all_scenarios()) >= 14
    assert all(line.endswith(".") for line in lines)


def test_marks_are_those_of_the_fake_backend():
    assert (MARK, MARKS) == (faults.MARK, faults.MARKS)
    assert picture("nan") != picture()
    assert isinstance(ROOT, Path)
