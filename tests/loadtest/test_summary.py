"""Figures of made-up runs whose answers are known, and the page that shows them."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.infer_requests import Answer
from loadtest.load import Outcomes
from loadtest.plots import THEME
from loadtest.report import Report
from loadtest.summary import NOTHING, Run, Thresholds, agreement, sum_up, wilson
from loadtest.usage_errors import UsageError
from tests.loadtest.test_infer_requests import curve

GIVEN = Answer(best=1, cap=4, budget_reason="requested", tape_length=4, useful_flops=2e6, executed_flops=3e6)


def run(latency_ms: list[float], status: list[int], name: str = "4") -> Run:
    count = len(status)
    outcomes = Outcomes(
        np.linspace(0, 1, count), np.array(latency_ms) / 1e3, np.array(status, np.int64), np.full(count, 1e-3)
    )
    answers = [GIVEN if each == 200 else None for each in status]
    return Run(4, name, 2.0, outcomes, answers, [number % 2 for number in range(count)])


MIXED = run([10, 20, 200, 1, 5, 0], [200, 200, 200, 503, 504, 0])


def test_what_is_not_answered_in_time_counts_against() -> None:
    row = sum_up(MIXED, curve(), [1, 1], slo_s=0.1)
    assert (row.requests, row.rate) == (6, 3.0)
    assert row.attainment == pytest.approx(2 / 6)
    assert row.goodput == pytest.approx(1.0)
    assert row.shares == {
        "answered": 0.5, "quota": 0.0, "shed": pytest.approx(1 / 6), "expired": pytest.approx(1 / 6),
        "lost": pytest.approx(1 / 6), "error": 0.0,
    }  # fmt: skip
    assert row.p50_ms == pytest.approx(20)
    assert row.lag_p99_ms == pytest.approx(1)


def test_cost_and_quality_are_of_what_was_answered() -> None:
    row = sum_up(MIXED, curve(), [1, 0], slo_s=0.1)
    assert (row.mean_tape, row.useful_flops, row.executed_flops) == (4, 2e6, 3e6)
    assert (row.accuracy.value, row.accuracy.low, row.accuracy.high) == pytest.approx((0.6, 0.5, 0.7))
    assert row.agreement.value == pytest.approx(0.5)


def test_a_run_without_an_answer_knows_nothing() -> None:
    row = sum_up(run([1, 1], [503, 503]), curve(), [1, 1], slo_s=0.1)
    assert (row.accuracy, row.agreement, row.attainment) == (NOTHING, NOTHING, 0.0)
    assert row.p99_ms == float("inf")


def test_degraded_answers_have_the_accuracy_of_the_cap_they_got() -> None:
    cut = replace(MIXED, answers=[replace(GIVEN, cap=0, budget_reason="degraded"), GIVEN, *[None] * 4])
    row = sum_up(cut, curve(), [1, 1], slo_s=0.1)
    assert row.degraded == 0.5
    assert row.accuracy.value == pytest.approx(0.5)


def test_asking_again_about_a_picture_is_no_new_sample() -> None:
    once = agreement([GIVEN, replace(GIVEN, best=0)], [0, 1], [1, 1])
    often = agreement([GIVEN, replace(GIVEN, best=0)] * 50, [0, 1] * 50, [1, 1])
    assert once == often
    assert once.value == 0.5


@given(st.integers(0, 200), st.integers(1, 200))
def test_an_interval_holds_its_share_and_narrows(num_right: int, num_samples: int) -> None:
    share = min(num_right / num_samples, 1.0)
    interval, wider = wilson(share, 4 * num_samples), wilson(share, num_samples)
    assert 0 <= interval.low <= share + 1e-9
    assert share - 1e-9 <= interval.high <= 1
    assert interval.high - interval.low < wider.high - wider.low


def test_thresholds_name_what_missed_them() -> None:
    row = sum_up(MIXED, curve(), [1, 1], slo_s=0.1)
    assert Thresholds().misses([row]) == []
    assert Thresholds(0.3, 250, 0.6, 0.9).misses([row]) == []
    assert Thresholds(0.9, 50, 0.4, None).misses([row]) == [
        "cap 4: attainment; got 0.3333; expected at least 0.9",
        "cap 4: p99 ms; got 196.4; expected at most 50",
        "cap 4: failed; got 0.5; expected at most 0.4",
    ]


def report(*runs: Run, thresholds: Thresholds | None = None) -> Report:
    rows = [sum_up(each, curve(), [1, 1], 0.1) for each in runs]
    judged = thresholds or Thresholds()
    return Report("m <under> load", "sub", 100, curve(), judged, {"url": "http://127.0.0.1:1"}, rows, runs)


class Outside(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in {"src", "href", "xlink:href"}]


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = report(MIXED, run([1, 1], [503, 503], "full"), thresholds=Thresholds(0.9)).write(tmp_path).read_text()
    outside = Outside()
    outside.feed(page)
    assert [link for link in outside.found if not link.startswith("#")] == []
    assert not re.search(r"url\((?!#)|@import|<script", page)
    assert page.count("<svg") == 4
    assert "m &lt;under&gt; load" in page
    assert "cap full: attainment; got 0; expected at least 0.9" in page
    assert not re.search(r"\$[a-z]", page)


def test_the_page_s_pictures_wear_its_colours(tmp_path: Path) -> None:
    page = report(MIXED).write(tmp_path).read_text()
    assert [colour for colour in THEME if colour in page] == []
    defined = set(re.findall(r"(--[\w-]+):", page))
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) <= defined


def test_the_figures_lie_beside_the_page(tmp_path: Path) -> None:
    report(MIXED, run([1, 1], [503, 503], "full")).write(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    document = json.loads((folder / "report.json").read_text())
    assert [row["p99_ms"] is None for row in document["rows"]] == [False, True]
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cap"] for row in rows] == ["4", "full"]
    assert float(rows[0]["accuracy_low"]) == pytest.approx(0.5)
    with (folder / "requests.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)][:6] == ["200", "200", "200", "503", "504", "0"]


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"report; got .*; expected a folder"):
        report(MIXED).write(tmp_path / "file" / "below")
