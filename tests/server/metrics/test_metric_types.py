import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.metrics.definitions import SECONDS
from server.metrics.metric_types import Counter, Gauge, Histogram, Series, geometric, to_signed, to_tape_edges


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
    assert sum(0.001 <= edge <= 0.1 for edge in SECONDS) >= 8
    assert list(SECONDS) == sorted(set(SECONDS))


def test_geometric_edges():
    assert geometric(1.0, 100.0, per_decade=2) == (1.0, 3.16, 10.0, 31.6, 100.0)


def test_edges_about_zero():
    assert to_signed((1.0, 10.0)) == (-10.0, -1.0, 0.0, 1.0, 10.0)


@pytest.mark.parametrize("capacity", [1, 16, 23, 24, 100, 1000])
def test_tape_edges_end_at_the_capacity_and_stay_few(capacity):
    edges = to_tape_edges(capacity)
    assert edges[0] == 0
    assert edges[-1] == capacity
    assert list(edges) == sorted(set(edges))
    assert len(edges) <= 25
    assert capacity > 23 or len(edges) == capacity + 1


@given(st.lists(st.floats(0, 100), max_size=50))
def test_many_at_once_count_like_one_by_one(values):
    one_by_one, at_once = Series((0.1, 1.0, 10.0)), Series((0.1, 1.0, 10.0))
    for value in values:
        one_by_one.observe(value)
    at_once.observe_all(values)
    assert at_once.buckets() == one_by_one.buckets()
    assert at_once.total == pytest.approx(one_by_one.total)


def test_equal_values_are_added_at_once():
    series = Series((1.0, 2.0))
    series.add(2, 3)
    assert series.buckets() == [("1.0", 0), ("2.0", 3), ("+Inf", 3)]
    assert series.total == 6


def test_a_gauge_that_was_taken_over_is_not_forgotten_with_its_former_owner():
    gauge = Gauge("g", "help", ("model",))
    reads = [lambda: 1.0, lambda: 2.0]
    for read in reads:
        gauge.watch(read, "m")
    gauge.forget(reads[0], "m")
    assert [sample.value for sample in gauge.collect().samples] == [2.0]
    gauge.forget(reads[1], "m")
    assert gauge.collect().samples == []
