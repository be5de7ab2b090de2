"""The table of aims says what the newest reports say, and the one in the repository is up to date."""

import json
from pathlib import Path

from benchmarks.report import FOLDER
from benchmarks.summary import aims_table, refresh


def keep(folder: Path, stem: str, value: float) -> None:
    aim = {"name": "speed", "value": value, "limit": 2.0, "is_at_least": True, "is_met": value >= 2}
    (folder / f"{stem}.json").write_text(json.dumps({"date": f"{stem[:10]} 10:00 UTC", "aims": [aim]}))


def test_the_newest_report_of_each_benchmark_counts(tmp_path: Path) -> None:
    keep(tmp_path, "2026-01-02-adaptive", 1.0)
    keep(tmp_path, "2026-01-03-adaptive", 2.0)
    keep(tmp_path, "2026-01-01-efficiency-photo", 1.5)
    assert aims_table(tmp_path).splitlines()[2:] == [
        "| adaptive | 2026-01-03 | speed | 2 | ≥ 2 | met |",
        "| efficiency-photo | 2026-01-01 | speed | 1.5 | ≥ 2 | **missed** |",
    ]


def test_only_the_table_is_rewritten_and_again_changes_nothing(tmp_path: Path) -> None:
    keep(tmp_path, "2026-01-02-adaptive", 1.0)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- aims: begin -->\nold\n<!-- aims: end -->\nafter\n")
    refresh(tmp_path)
    once = readme.read_text()
    assert once.startswith("before\n<!-- aims: begin -->\n\n| benchmark")
    assert once.endswith("<!-- aims: end -->\nafter\n")
    assert "old" not in once
    refresh(tmp_path)
    assert readme.read_text() == once


def test_the_committed_table_is_that_of_the_committed_reports() -> None:
    assert aims_table(FOLDER) in (FOLDER / "README.md").read_text("utf-8")
