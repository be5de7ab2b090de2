"""The report: it is what its result files say, and its verdicts follow their rule."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adatape.checkpoint import write_json
from adatape.study import parity
from adatape.study.__main__ import main, planned
from adatape.study.report import write_report
from adatape.study.tables import Rate, Seeds, best_rate, gather, percent, read_speeds, table
from adatape.study.verdicts import (
    CONTRADICTED,
    NOT_SHOWN,
    SHOWN,
    above_one,
    at_chance,
    at_least,
    compare,
    faster,
)

RESULTS = Path(__file__).parents[3] / "docs" / "results"


def seeds(*accuracies: float, variant: str = "ours", num_samples: int = 6400) -> Seeds:
    results: list[dict[str, Any]] = [
        {"figures": {"accuracy": accuracy, "num_samples": num_samples}, "seed": seed}
        for seed, accuracy in enumerate(accuracies)
    ]
    return Seeds("group", variant, tuple(results))


def test_the_committed_report_follows_from_the_committed_results(tmp_path: Path) -> None:
    assert main(["report", "--results", str(RESULTS / "data"), "--report", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text() == (RESULTS / "report.md").read_text()
    charts = {path.name for path in tmp_path.glob("*.png")}
    assert charts == {path.name for path in RESULTS.glob("*.png")}
    text = (tmp_path / "report.md").read_text()
    assert all(f"({name})" in text for name in charts), "a chart that no text shows"


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        ([0.8, 0.81], [0.5, 0.52], SHOWN),
        ([0.5, 0.52], [0.8, 0.81], CONTRADICTED),
        ([0.8, 0.5], [0.6, 0.4], NOT_SHOWN),
        ([0.501, 0.502], [0.5, 0.5], NOT_SHOWN),
    ],
    ids=["better", "worse", "seeds disagree", "within the interval"],
)
def test_a_comparison_needs_an_interval_and_seeds_that_agree(
    ours: Sequence[float], theirs: Sequence[float], verdict: str
) -> None:
    assert compare("", seeds(*ours), seeds(*theirs)).verdict == verdict


def test_a_single_seed_is_told() -> None:
    assert compare("", seeds(0.8), seeds(0.5, 0.5)).verdict == f"{SHOWN}, one seed"
    assert compare("", seeds(0.5), seeds(0.5)).verdict == NOT_SHOWN
    assert at_least("", 0.9, {"a": seeds(0.95)}).verdict == f"{SHOWN}, one seed"
    assert at_chance("", {"a": seeds(0.95)}).verdict == CONTRADICTED, "one is enough"


def test_what_did_not_run_is_told() -> None:
    assert compare("", seeds(0.9), None).verdict == "not run"
    partly = at_least("", 0.9, {"a": seeds(0.95), "b": None})
    assert (partly.verdict, "not run: b" in partly.evidence) == (NOT_SHOWN, True)
    assert at_chance("", {"a": None}).verdict == "not run"


def test_aims_are_held_by_the_worst_seed() -> None:
    assert at_least("", 0.9, {"a": seeds(0.95, 0.91)}).verdict == SHOWN
    assert at_least("", 0.9, {"a": seeds(0.99, 0.89), "b": None}).verdict == CONTRADICTED
    assert at_chance("", {"a": seeds(0.5, 0.48)}).verdict == SHOWN
    assert at_chance("", {"a": seeds(0.5, 0.99)}).verdict == CONTRADICTED


def test_speeds_are_compared_by_their_worst_measurements() -> None:
    slow, fast, between = Rate(10, 9, 11), Rate(20, 18, 22), Rate(12, 10, 19)
    assert faster("", fast, {"a": slow}).verdict == SHOWN
    assert faster("", fast, {"a": slow, "b": between}).verdict == NOT_SHOWN
    assert faster("", fast, {"a": slow, "b": None}).verdict == NOT_SHOWN
    assert faster("", slow, {"a": fast}).verdict == CONTRADICTED
    assert faster("", None, {"a": fast}).verdict == "not run"


def test_speeds_are_read_and_graphs_are_preferred(tmp_path: Path) -> None:
    rate = {"median": 2.0, "low": 1.0, "high": 3.0}
    models = [
        {"variant": name, "runtime": runtime, "images_per_s": {"32": {**rate, "median": median}}}
        for name, runtime, median in (("a", "torch", 5.0), ("a", "onnxruntime", 9.0), ("b", "torch", 4.0))
    ]
    write_json(tmp_path / "speeds.json", {"models": models})
    speeds = read_speeds(tmp_path / "speeds.json")
    found = {name: best_rate(speeds, name, 32) for name in "abc"}
    assert {name: rate and rate.median for name, rate in found.items()} == {"a": 9, "b": 4, "c": None}
    assert read_speeds(tmp_path / "none.json") == {}


def test_planned_runs_without_a_result_are_listed(tmp_path: Path) -> None:
    results = tmp_path / "results" / "parity"
    results.mkdir(parents=True)
    name = "fixed-8--adatape--seed0.json"
    (results / name).write_bytes((RESULTS / "data" / "parity" / name).read_bytes())
    path = write_report(tmp_path / "results", tmp_path, planned(quick=True))
    text = path.read_text()
    assert f"{len(list(parity.quick_specs())) - 1} of the planned runs" in text
    assert "ut-act (seed 0)" in text
    assert "images |" not in text, "a study without any result is not told as missing"


def test_ratios_are_held_by_their_interval() -> None:
    assert above_one("", {"a": (1.2, 1.1, 1.3)}).verdict == SHOWN
    assert above_one("", {"a": (1.2, 1.1, 1.3), "b": (1.0, 0.9, 1.1)}).verdict == NOT_SHOWN
    assert above_one("", {"a": (0.8, 0.7, 0.9)}).verdict == CONTRADICTED


def test_tables_are_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]
    assert percent(seeds(0.5, 0.6)) == "55.0 (50.0 to 60.0)"
    assert percent(seeds(0.5)) == "50.0 ± 1.2"
    assert percent(None) == "not run"


def test_seeds_of_a_variant_are_gathered() -> None:
    results = [{"group": "g", "variant": name, "seed": seed} for seed in (0, 1) for name in ("a", "b")]
    assert {key: len(one.results) for key, one in gather(results).items()} == {("g", "a"): 2, ("g", "b"): 2}


def test_no_results_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path), "--report", str(tmp_path / "out")]) == 1
    assert "expected parity or images/*.json" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["parity", "images"])
def test_a_study_runs_and_reports(study: str, tmp_path: Path) -> None:
    """One run of the quick study; the whole of it takes minutes."""
    assert (
        main(
            [
                study,
                "--quick",
                "--only",
                "transformer-flat" if study == "parity" else "vit-16",
                "--states",
                str(tmp_path),
            ]
        )
        == 0
    )
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| verdict | numbers |" in text
    assert list((tmp_path / "report").glob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("study", ["parity", "images"])
def test_a_quick_study_runs_whole(study: str, tmp_path: Path) -> None:
    assert main([study, "--quick", "--states", str(tmp_path)]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "adatape" in text
    assert len(list((tmp_path / "report").glob("*.png"))) >= 3
