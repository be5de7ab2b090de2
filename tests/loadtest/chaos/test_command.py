"""The chaos harness: quick scenarios pass against this server, and a broken promise fails."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtest.chaos import __main__ as command
from loadtest.chaos import clock
from loadtest.chaos.promises import Broken, Skipped, promise
from loadtest.chaos.registry import Scenario, all_scenarios
from loadtest.chaos.servers import MARK, MARKS, picture
from loadtest.process import ROOT
from server.backends import faults

QUICK = (
    "a_batch_that_raises",
    "logits_that_are_nan",
    "a_batch_that_does_not_fit_into_memory",
    "an_event_loop_that_is_blocked",
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
    async def play(servers) -> str:
        promise(False, 1, "2")
        return "unreachable"

    monkeypatch.setattr(command, "all_scenarios", lambda: [Scenario("broken", "It breaks.", play)])
    assert run(monkeypatch) == 1
    out = capsys.readouterr().out
    assert "FAIL  broken" in out
    assert "got 1; expected 2" in out
    assert "chaos: FAIL: 0 of 1 scenarios" in out


def test_playing_nothing_is_no_pass(monkeypatch):
    with pytest.raises(SystemExit, match="--only; got no_such_scenario; expected a scenario"):
        run(monkeypatch, "--only", "no_such_scenario")


def test_what_cannot_be_played_is_told_and_neither_passes_nor_fails(monkeypatch, capsys):
    async def skip(servers) -> str:
        raise Skipped("no such thing here")

    async def play(servers) -> str:
        return "played"

    scenarios = [Scenario("skipped", "It skips.", skip), Scenario("played", "It plays.", play)]
    monkeypatch.setattr(command, "all_scenarios", lambda: scenarios)
    assert run(monkeypatch) == 0
    out = capsys.readouterr().out
    assert "SKIP  skipped" in out
    assert "no such thing here" in out
    assert "chaos: PASS: 1 of 2 scenarios, 1 skipped" in out
    assert run(monkeypatch, "--only", "skipped") == 1


def test_what_needs_a_triton_is_skipped_without_one(monkeypatch, capsys):
    assert run(monkeypatch, "--only", "a_triton_*") == 1
    out = capsys.readouterr().out
    assert "SKIP  a_triton_that_hangs_and_one_that_is_killed" in out
    assert "make triton-setup" in out


def test_the_first_cause_is_told(monkeypatch, capsys):
    async def play(servers) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
        return "unreachable"

    async def fail() -> None:
        promise(False, "this", "that")

    monkeypatch.setattr(command, "all_scenarios", lambda: [Scenario("broken", "It breaks.", play)])
    assert run(monkeypatch) == 1
    assert "Broken: got this; expected that" in capsys.readouterr().out


@pytest.mark.parametrize("libraries", [clock._LIBRARIES, ()], ids=["as installed", "replaced"])
def test_a_wall_clock_is_stepped_and_the_monotonic_one_is_not(tmp_path, monkeypatch, libraries):
    monkeypatch.setattr(clock, "_LIBRARIES", libraries)
    wall = clock.WallClock(tmp_path)
    wall.step(-7200)
    code = "import time; print(time.time(), time.monotonic())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **wall.variables}, capture_output=True, check=True
    )
    wall_s, steady_s = map(float, done.stdout.split())
    assert wall_s - time.time() == pytest.approx(-7200, abs=60)
    assert steady_s == pytest.approx(time.monotonic(), abs=60)


def test_promises():
    promise(True, 1, "1")
    with pytest.raises(Broken, match="got 1; expected 2"):
        promise(False, 1, "2")


def test_scenarios_are_listed_with_their_statements(monkeypatch, capsys):
    assert run(monkeypatch, "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(all_scenarios()) >= 17
    assert all(line.endswith(".") for line in lines)


def test_marks_are_those_of_the_fake_backend():
    assert (MARK, MARKS) == (faults.MARK, faults.MARKS)
    assert picture("nan") != picture()
    assert isinstance(ROOT, Path)
