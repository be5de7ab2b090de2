"""What the tool reports, what the metrics say, and how the two are held against each other."""

import json
from dataclasses import astuple
from math import inf

import numpy as np
import pytest

from benchmarks.perf_analyzer import Case, Outcome, to_input
from benchmarks.perf_tool import Measured, parse
from benchmarks.perf_watch import Sample, Seen, Watch, difference, parse_sample

TABLE = """\
Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,\
Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency
4,983.5,3,2068,1323,81,503,74,2,3736,5365,6181,9185
"""
PROFILE = json.dumps({"experiments": [{"window_boundaries": [1_000_000_000, 3_000_000_000, 6_500_000_000]}]})
PAGE = """\
# TYPE adatape_request_duration_seconds histogram
adatape_request_duration_seconds_bucket{model="a",protocol="oip",le="0.001"} 90.0
adatape_request_duration_seconds_bucket{model="a",protocol="oip",le="0.002"} 99.0
adatape_request_duration_seconds_bucket{model="a",protocol="oip",le="+Inf"} 100.0
adatape_request_duration_seconds_count{model="a",protocol="oip"} 100.0
adatape_request_duration_seconds_sum{model="a",protocol="oip"} 0.125
adatape_request_duration_seconds_bucket{model="a",protocol="classify",le="+Inf"} 7.0
adatape_request_duration_seconds_count{model="a",protocol="classify"} 7.0
"""


def test_the_tools_table_and_windows_are_read():
    measured = parse(TABLE, PROFILE)
    assert astuple(measured) == pytest.approx((983.5, 0.003736, 0.009185, 0.001981, 1.0, 6.5))


def test_a_table_of_several_rows_is_no_measurement():
    with pytest.raises(SystemExit, match="got 2 rows; expected one"):
        parse(TABLE + TABLE.splitlines()[-1], PROFILE)


def test_metrics_of_one_protocol_are_added_up():
    sample = parse_sample(PAGE, "oip", 5.0)
    assert sample == Sample(5.0, 100.0, 0.125, {0.001: 90.0, 0.002: 99.0, inf: 100.0})


def test_what_happened_between_two_samples():
    first = Sample(10.0, 100, 1.0, {0.001: 90, 0.002: 99, inf: 100})
    last = Sample(12.0, 300, 1.5, {0.001: 100, 0.002: 297, inf: 300})
    assert difference(first, last) == Seen(rate=100.0, mean_s=0.0025, p99_low_s=0.001, p99_high_s=0.002)


@pytest.mark.parametrize(("p99_s", "gap"), [(0.0015, 0.0), (0.001, 0.0), (0.0022, 0.1), (0.0005, 0.5)])
def test_a_p99_is_compared_with_the_bucket_that_holds_it(p99_s: float, gap: float):
    assert Seen(1.0, 1.0, 0.001, 0.002).p99_gap(p99_s) == pytest.approx(gap)


def test_only_what_lies_in_the_tools_windows_counts():
    watch = Watch("http://127.0.0.1:9", "oip", 1.0)
    watch.samples = [Sample(at_s, 100 * at_s, at_s, {0.001: 100 * at_s, inf: 100 * at_s}) for at_s in (1.0, 2.0, 4.0)]
    watch.samples.append(Sample(9.0, 10_000, 9.0, {0.001: 10_000, inf: 10_000}))
    assert watch.between(1.5, 8.0).rate == 100.0
    with pytest.raises(SystemExit, match="got 1 samples"):
        watch.between(8.0, 10.0)


def test_a_cap_goes_the_way_that_each_protocol_has():
    assert Case("grpc", "x", ("-a",), 3).to_arguments() == ["-a", "--request-parameter", "max_tape:3:int"]
    assert Case("http", "x", ("-a",), 3).to_arguments() == ["-a", "-H", "X-Max-Tape:3"]
    assert Case("http", "x", ("-a",)).to_arguments() == ["-a"]


def test_gaps_are_shares_of_what_the_metrics_say():
    measured = Measured(110.0, 0.001, 0.003, 0.0024, 0, 1)
    outcome = Outcome(Case("http", "x", ("--request-rate-range", "9")), measured, Seen(100.0, 0.002, 0.001, 0.002))
    assert (outcome.rate_gap, outcome.mean_gap, outcome.p99_gap) == pytest.approx((0.1, 0.2, 0.5))
    assert outcome.is_open


def test_the_tool_is_given_images_alone():
    steps = json.loads(to_input(np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)))["data"]
    assert [list(step) for step in steps] == [["image"], ["image"]]
    assert steps[1]["image"] == {"content": list(range(12, 24)), "shape": [2, 2, 3]}
