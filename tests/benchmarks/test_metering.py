"""The command that measures what counting costs, and the server that counts nothing."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.metering import MAX_COST, SCRAPE_INTERVAL_S, _to_report
from benchmarks.unmetered import Unmetered
from server.backends.fake import FAMILY, fake_manifest
from server.errors import Overloaded
from server.metrics import Metrics
from server.metrics.meters import ModelMeter
from server.records import BudgetReason, InferAnswer, Receipt, Sample

ROOT = Path(__file__).parents[2]


class Bench:
    model = FAMILY

    def describe(self):
        return "described"


def test_the_cost_is_the_median_share_of_throughput_and_that_of_scrapes():
    report = _to_report(Bench(), [(99.0, 100.0), (95.0, 100.0), (100.0, 100.0)], 0.015, 1.0)
    (aim,) = report.aims
    assert aim.value == pytest.approx(0.01 + 0.001)
    assert report.is_met == (aim.value <= MAX_COST)
    assert not _to_report(Bench(), [(90.0, 100.0)], 0.0, 1.0).is_met


def test_scrapes_are_paced_as_prometheus_is_told_to():
    text = (ROOT / "monitoring/prometheus/prometheus.yml").read_text()
    assert f"scrape_interval: {SCRAPE_INTERVAL_S:g}s" in text


def test_an_unmetered_family_counts_nothing_of_what_a_metered_one_counts():
    receipt = Receipt(FAMILY, "1", 8, BudgetReason.MODEL, 3, 3, 4, 4000, 6100, 0.1, 0.1, 0.1, 0.3)
    answer = InferAnswer("r", FAMILY, "1", (Sample(np.zeros(10, np.float32), receipt),))
    shown = []
    for kind in (ModelMeter, Unmetered):
        metrics = Metrics()
        meter = kind(metrics, fake_manifest(), metrics.meter(fake_manifest()).version_counts)
        before = metrics.render()[0]
        meter.asked([8])
        meter.admitted()
        meter.executed("trunk", 4, 1, 0.1, 1000)
        meter.answered("oip", answer, 0.0)
        meter.refused("oip", Overloaded("server"), 0.1)
        shown.append([line for line in metrics.render()[0].splitlines() if line.startswith(b"adatape_")])
        before = [line for line in before.splitlines() if line.startswith(b"adatape_")]
        assert (shown[-1] == before) == (kind is Unmetered)
