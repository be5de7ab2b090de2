"""Reports: what they say, where they go, and what they must not say."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import report as reports
from benchmarks.report import Aim, Report, context_of, describe_machine, finish, hide_paths, text_table

DAY = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "is_at_least", "is_met"),
    [(2, True, True), (1, True, True), (0, True, False), (2, False, False), (0, False, True)],
)
def test_an_aim_is_met_or_not(value: float, is_at_least: bool, is_met: bool) -> None:
    aim = Aim("figure", value, 1, is_at_least)
    assert aim.is_met is is_met
    assert ("MISSED" in aim.line()) is not is_met


def test_a_figure_that_is_not_a_number_misses_its_aim() -> None:
    assert not Aim("figure", float("nan"), 1).is_met
    assert not Aim("figure", float("nan"), 1, is_at_least=False).is_met


def test_finish_prints_the_figure_last_and_fails_where_an_aim_is_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("speed", "Speed", rows=[{"side": "a", "images/s": 12.5}], aims=[Aim("ratio", 0.5, 1)])
    assert finish(report, json_path=tmp_path / "out.json", is_kept=False) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "ratio: 0.5 (aim ≥ 1: MISSED)"
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["aims"][0]["is_met"] is False
    assert written["rows"] == report.rows


def test_a_kept_report_is_dated_and_written_twice(tmp_path: Path) -> None:
    report = Report("speed", "Speed", rows=[{"n": 1}], aims=[Aim("ratio", 2, 1)], notes=["How."])
    assert finish(report, json_path=None, is_kept=True, folder=tmp_path) == 0
    markdown, document = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert markdown.name.endswith("-speed.md")
    assert document.name.endswith("-speed.json")
    text = markdown.read_text()
    for part in ("# Speed", "- hardware: ", "- versions: Python", "- git: ", "- command: ", "| n |", "How.", "met"):
        assert part in text


def test_a_report_says_what_was_run_but_not_where() -> None:
    context = context_of(["python", "-m", "benchmarks.x", "--data", str(Path.cwd() / "set.npz")], DAY)
    assert context["command"] == "python -m benchmarks.x --data set.npz"
    assert context["date"] == "2026-01-02 03:04 UTC"
    assert str(Path.cwd()) not in json.dumps(context)


def test_relative_paths_stay() -> None:
    assert hide_paths(["docs/x.svg", "--n", "3"]) == ["docs/x.svg", "--n", "3"]


def test_the_machine_has_no_name() -> None:
    assert "cores" in describe_machine()
    assert reports.git_sha()


def test_a_table_has_the_columns_of_all_rows() -> None:
    assert text_table([{"a": 1}, {"b": 2.0}]).splitlines() == ["a  b", "1   ", "   2"]
