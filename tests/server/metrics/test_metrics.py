import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from server.backends.fake import FAMILY, fake_manifest
from server.errors import BackendFailed, Cancelled, DeadlineExceeded, NotAnImage, Overloaded
from server.metrics import Metrics
from server.metrics.metrics import PROTOCOLS, REASONS
from server.metrics.version_counts import FLUSH_EVERY
from server.metrics.version_counts import PADDING_CAUSES as CAUSES
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


def total(metrics, name, **labels):
    """Return the sum of all series that have these labels."""
    samples = [sample for family in metrics.collect() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


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
        meter.answered("classify", answer(*request), 0.0)
    all_receipts = [r for request in requests for r in request]
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="useful") == sum(
        r.useful_flops for r in all_receipts
    )
    metrics.snapshot()
    assert metrics.flops.values[FAMILY, "useful"] + metrics.flops.values[FAMILY, "padding"] == sum(
        r.executed_flops for r in all_receipts
    )
    assert sum(metrics.padding.values.values()) == metrics.flops.values[FAMILY, "padding"]
    assert total(metrics, "adatape_sample_executed_flops_sum", model=FAMILY) == pytest.approx(
        sum(r.executed_flops for r in all_receipts)
    )
    assert total(metrics, "adatape_sample_seconds_count", model=FAMILY) == len(all_receipts)
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
    meter.answered("classify", answer(receipt()), 0.0)
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
    meter.failed("oip", BackendFailed("logits"), spent_flops=[100, 23], total_s=0.1)
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="wasted") == 123
    assert value(metrics, "adatape_wasted_flops_total", model=FAMILY, cause="failed") == 123
    assert value(metrics, "adatape_flops_total", model=FAMILY, kind="padding") == 0


@pytest.mark.parametrize(
    ("error", "name", "cause", "outcome"),
    [
        (DeadlineExceeded("deadline", cause="waiting"), "adatape_expired_total", "waiting", "expired"),
        (DeadlineExceeded("deadline", cause="tea time"), "adatape_expired_total", "other", "expired"),
        (Cancelled("request"), "adatape_cancelled_total", "begun", "cancelled"),
        (BackendFailed("logits"), "adatape_wasted_flops_total", "failed", "failed"),
    ],
)
def test_what_was_let_in_and_not_answered_is_counted_by_cause(error, name, cause, outcome):
    metrics = Metrics()
    metrics.meter(fake_manifest()).failed("oip", error, spent_flops=[1], total_s=0.1)
    assert value(metrics, name, model=FAMILY, cause=cause) == 1
    labels = {"model": FAMILY, "version": "1", "bucket": "none", "outcome": outcome}
    assert value(metrics, "adatape_sample_seconds_count", **labels) == 1
    assert value(metrics, "adatape_sample_executed_flops_sum", **labels) == 1


def test_a_cancel_before_any_execution_is_one_that_waited():
    metrics = Metrics()
    metrics.meter(fake_manifest()).failed("oip", Cancelled("request"), spent_flops=[0, 0], total_s=0.1)
    assert value(metrics, "adatape_cancelled_total", model=FAMILY, cause="waiting") == 1


@pytest.mark.parametrize(
    ("error", "name", "cause"),
    [
        (Overloaded("server", cause="service_level"), "adatape_shed_total", "service_level"),
        (Overloaded("server"), "adatape_shed_total", "other"),
        (DeadlineExceeded("deadline", cause="admission"), "adatape_expired_total", "admission"),
    ],
)
def test_what_is_refused_is_counted_by_cause(error, name, cause):
    metrics = Metrics()
    metrics.meter(fake_manifest()).refused("oip", error, total_s=0.1)
    assert value(metrics, name, model=FAMILY, cause=cause) == 1
    assert total(metrics, "adatape_sample_seconds_count", outcome="failed") == 0


def test_degraded_answers_are_told_apart_by_cause_and_outcome():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.answered("oip", answer(receipt(budget_reason=BudgetReason.DEGRADED), receipt()), 0.0)
    assert value(metrics, "adatape_degraded_total", model=FAMILY, cause="controller") == 1
    labels = {"model": FAMILY, "version": "1", "bucket": "4"}
    for outcome in ("ok", "degraded"):
        assert value(metrics, "adatape_sample_useful_flops_sum", **labels, outcome=outcome) == 4000


def test_padding_is_split_by_what_was_too_long():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    read = receipt(tape_length=3, bucket=8, useful_flops=1000 + 800 + 2750, executed_flops=1000 + 2100 + 4000)
    meter.answered("oip", answer(read), 0.0)
    padding = {cause: value(metrics, "adatape_padding_flops_total", model=FAMILY, cause=cause) for cause in CAUSES}
    assert padding == {"read": 1300, "bucket": 250, "riding": 1000}


def test_demand_counts_what_callers_ask_for_at_what_it_should_take():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.version_counts.mean_flops = lambda: [float(100 * cap) for cap in range(17)]
    meter.asked([4, 4, 16])
    for _ in range(2):
        assert value(metrics, "adatape_demanded_flops_total", model=FAMILY) == 2400
    assert value(metrics, "adatape_tape_length_requested_cap_bucket", model=FAMILY, le="4.0") == 2


def test_attainment_is_that_of_late():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    assert meter.version_counts.attainment() == 1
    for is_met in (True, True, True, False):
        meter.measured(is_met=is_met)
    metrics.snapshot()
    assert meter.version_counts.attainment() == 0.75
    assert value(metrics, "adatape_slo_answers_total", model=FAMILY, result="late") == 1


def test_expected_quality_follows_the_curve():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.answered("oip", answer(receipt(cap=8), receipt(cap=10)), 0.0)
    assert value(metrics, "adatape_expected_correct_total", model=FAMILY) == pytest.approx(0.7 + 0.75)


def test_the_service_level_has_an_edge_of_its_own():
    metrics = Metrics(slo_s=0.0423)
    metrics.meter(fake_manifest()).answered("oip", answer(receipt(total_s=0.0423)), 0.0)
    labels = {"model": FAMILY, "protocol": "oip", "le": "0.0423"}
    assert value(metrics, "adatape_request_duration_seconds_bucket", **labels) == 1


def test_exemplars_name_a_trace_or_else_the_request_and_only_in_openmetrics():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.answered("oip", answer(receipt(total_s=0.02)), 0.0, trace_id="ab" * 16)
    meter.answered("oip", answer(receipt(total_s=0.5)), 0.0)
    text = metrics.render("application/openmetrics-text; version=1.0.0")[0].decode()
    assert f'# {{trace_id="{"ab" * 16}"}} 0.02' in text
    assert '# {request_id="r"} 0.5' in text
    assert "trace_id" not in metrics.render()[0].decode()


def test_two_loads_of_a_version_count_together_and_nothing_is_lost():
    metrics = Metrics()
    for version in ("1", "1", "2"):
        meter = metrics.meter(fake_manifest(version=version))
        meter.answered("oip", answer(receipt()), 0.0)
        del meter
    assert value(metrics, "adatape_inferences_total", model=FAMILY) == 3


def test_many_receipts_are_counted_without_a_scrape():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    for _ in range(FLUSH_EVERY):
        meter.answered("oip", answer(receipt()), 0.0)
    assert metrics.inferences.values[FAMILY,] == FLUSH_EVERY


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_promtool_finds_nothing_to_say():
    metrics = Metrics(slo_s=0.05)
    meter = metrics.meter(fake_manifest())
    meter.answered("oip", answer(receipt()), 0.0)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.render()[0], capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_execution_sizes_are_seen_by_stage_and_bucket():
    metrics = Metrics()
    meter = metrics.meter(fake_manifest())
    meter.executed("trunk", 8, 5, 0.01, 1000)
    meter.predicted("trunk", 8, 0.005, 0.01)
    labels = {"model": FAMILY, "stage": "trunk", "bucket": "8"}
    assert value(metrics, "adatape_batch_size_sum", **labels) == 5
    assert value(metrics, "adatape_batch_size_bucket", **labels, le="4.0") == 0
    assert value(metrics, "adatape_batch_size_bucket", **labels, le="6.0") == 1
    assert value(metrics, "adatape_execution_prediction_ratio_sum", model=FAMILY, stage="trunk") == 2
    assert value(metrics, "adatape_executed_flops_total", **labels) == 5000
    errors = {"model": FAMILY, "stage": "trunk"}
    assert value(metrics, "adatape_predicted_minus_actual_seconds_bucket", **errors, le="-0.00316") == 1
    assert value(metrics, "adatape_predicted_minus_actual_seconds_bucket", **errors, le="-0.01") == 0
    assert value(metrics, "adatape_predicted_minus_actual_seconds_sum", **errors) is None


def test_build_and_limits_are_shown():
    metrics = Metrics()
    metrics.pending_limit.watch(lambda: 4096)
    names = families(metrics)
    assert names["adatape_build_info"].samples[0].value == 1
    assert names["adatape_pending_samples_limit"].samples[0].value == 4096
