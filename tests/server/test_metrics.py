import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from server.backends.fake import FAMILY, fake_manifest
from server.errors import NotAnImage, Overloaded
from server.metrics import Metrics
from server.metrics.meters import Counter, Gauge, Histogram, geometric
from server.metrics.metrics import PROTOCOLS, REASONS, SECONDS
from server.records import BudgetReason, InferAnswer, Receipt, Sample


def receipt(**changes):
    values = {
        "model": FAMILY,
        "version": "1",
        "cap": 8,
        "budget_reason": BudgetReason.REQUESTED,
        "tape_length": 3,
        "tape_length_wanted": 5,
        "bucket": 4,
        "useful_flops": 4000,
        "executed_flops": 6100,
        "queue_s": 0.001,
        "read_s": 0.002,
        "trunk_s": 0.003,
        "total_s": 0.007,
    }
    return Receipt(**values | changes)


def answer(*receipts):
    samples = tuple(Sample(np.zeros(10, np.float32), receipt) for receipt in receipts)
    return InferAnswer("r", FAMILY, "1", samples)


def families(metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.render()[0].decode())}


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


receipts = st.builds(
    receipt,
    cap=st.integers(0, 16),
    budget_reason=st.sampled_from(BudgetReason),
    tape_length=st.integers(0, 16),
    tape_length_wanted=st.none() | st.integers(1, 16),
    useful_flops=st.integers(0, 2**60),
    executed_flops=st.integers(2**60, 2**61),
)


@given(st.lists(st.lists(receipts, min_size=1, max_size=4), max_size=8))
def test_law_receipts_sum_to_the_counters_exactly(requests):
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    for request in requests:
        meter.admitted()
        meter.answered("classify", answer(*request), [r.cap for r in request], 0.0)
    all_receipts = [r for request in requests for r in request]
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="useful") == sum(
        r.useful_flops for r in all_receipts
    )
    assert metrics.flops.values[FAMILY, "useful"] + metrics.flops.values[FAMILY, "padding"] == sum(
        r.executed_flops for r in all_receipts
    )
    assert value(metrics, "adatape_sample_executed_flops_sum", model=FAMILY) == sum(
        r.executed_flops for r in all_receipts
    )
    assert value(metrics, "adatape_inferences_total", model=FAMILY) == len(all_receipts)
    assert value(metrics, "adatape_requests_total", model=FAMILY, protocol="classify", outcome="ok") == len(requests)
    assert value(metrics, "adatape_tape_length_used_sum", model=FAMILY) == sum(r.tape_length for r in all_receipts)
    wanted = [r.tape_length_wanted for r in all_receipts if r.tape_length_wanted is not None]
    assert value(metrics, "adatape_tape_length_wanted_count", model=FAMILY) == len(wanted)
    for reason in BudgetReason:
        assert value(metrics, "adatape_budget_reason_total", model=FAMILY, reason=reason) == sum(
            r.budget_reason is reason for r in all_receipts
        )


def test_exposition_parses_and_keeps_the_conventions():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.admitted()
    meter.answered("classify", answer(receipt()), [8], 0.0)
    for name, family in families(metrics).items():
        assert name.startswith(("adatape_", "process_")), name
        assert family.documentation, name
        assert not name.endswith("_created"), name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), name
        for sample in family.samples:
            assert not {"request_id", "id", "user"} & set(sample.labels), sample


def test_openmetrics_is_given_to_who_asks():
    body, content_type = Metrics().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_every_outcome_exists_at_zero_before_it_happens():
    metrics = Metrics()
    metrics.meter(fake_manifest())
    for protocol in PROTOCOLS:
        for outcome in ("ok", *REASONS):
            assert value(metrics, "adatape_requests_total", model=FAMILY, protocol=protocol, outcome=outcome) == 0
    for reason in REASONS:
        assert value(metrics, "adatape_errors_total", reason=reason) == 0
    for bucket in ("0", "4", "8", "16"):
        assert value(metrics, "adatape_batch_size_count", model=FAMILY, stage="trunk", bucket=bucket) == 0


def test_a_refusal_is_counted_without_a_model_of_the_callers_making():
    metrics = Metrics()
    metrics.refused(NotAnImage("image"), protocol="classify")
    assert value(metrics, "adatape_requests_total", model="none", protocol="classify", outcome="not_an_image") == 1
    assert value(metrics, "adatape_errors_total", reason="not_an_image") == 1


def test_work_for_nothing_is_wasted_and_not_padding():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.failed("oip", Overloaded("server"), wasted_flops=123, total_s=0.1)
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="wasted") == 123
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="padding") == 0


def test_execution_sizes_are_seen_by_stage_and_bucket():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.executed("trunk", 8, 5, 0.01, 0.005)
    labels = {"model": FAMILY, "stage": "trunk", "bucket": "8"}
    assert value(metrics, "adatape_batch_size_sum", **labels) == 5
    assert value(metrics, "adatape_batch_size_bucket", **labels, le="4.0") == 0
    assert value(metrics, "adatape_batch_size_bucket", **labels, le="6.0") == 1
    assert value(metrics, "adatape_execution_prediction_ratio_sum", model=FAMILY, stage="trunk") == 2


def test_build_and_limits_are_shown():
    metrics = Metrics()
    metrics.pending_limit.watch(lambda: 4096)
    names = families(metrics)
    assert names["adatape_build_info"].samples[0].value == 1
    assert names["adatape_pending_samples_limit"].samples[0].value == 4096


@given(st.lists(st.floats(0, 100), max_size=50))
def test_histogram_counts_like_prometheus(values):
    histogram = Histogram("h_seconds", "help", (0.1, 1.0, 10.0))
    series = histogram.series()
    for one in values:
        series.observe(one)
    for edge, count in series.buckets():
        assert count == sum(one <= float(edge) for one in values)
    assert series.count == len(values)
    assert series.total == pytest.approx(math.fsum(values))


def test_counters_hold_integers_beyond_the_floats():
    counter = Counter("c_total", "help", ("model",))
    counter.add(2**60, "m")
    counter.add(1, "m")
    assert counter.values["m",] == 2**60 + 1


def test_a_gauge_is_read_when_scraped():
    gauge, state = Gauge("g", "help", ("model",)), {"now": 1}
    gauge.watch(lambda: state["now"], "m")
    state["now"] = 7
    assert [sample.value for sample in gauge.collect().samples] == [7]


def test_edges_suit_milliseconds():
    assert SECONDS[0] == 100e-6
    assert SECONDS[-1] == 10.0
    assert sum(0.001 <= edge <= 0.1 for edge in SECONDS) >= 10
    assert list(SECONDS) == sorted(set(SECONDS))


def test_geometric_edges():
    assert geometric(1.0, 100.0, per_decade=2) == (1.0, 3.16, 10.0, 31.6, 100.0)
