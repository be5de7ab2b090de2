"""Ratios, percentiles and fits by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ratios import Paired, alternate, percentiles_ms, r_squared


def test_sides_are_measured_in_turn() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return 1.0

    alternate(lambda: side("a"), lambda: side("b"), 2)
    assert calls == ["a", "b", "a", "b"]


def test_a_ratio_compares_b_with_the_as_around_it() -> None:
    paired = Paired([100.0, 50.0, 50.0], [75.0, 50.0, 25.0])
    assert paired.ratios == [1.0, 1.0, 0.5]
    assert paired.ratio == 1.0
    assert paired.spread == (0.5, 1.0)


@given(st.floats(0.1, 10), st.floats(0.5, 1.0))
def test_a_machine_that_slows_down_steadily_hardly_moves_the_ratio(ratio: float, drift: float) -> None:
    speeds = [drift ** (step / 10) for step in range(10)]
    paired = Paired(speeds[::2], [ratio * speed for speed in speeds[1::2]])
    assert paired.ratio == pytest.approx(ratio, rel=0.01)


def test_percentiles_are_measured_values() -> None:
    found = percentiles_ms([each / 1000 for each in range(100, 0, -1)])
    assert found == pytest.approx({"n": 100, "p50_ms": 51, "p95_ms": 96, "p99_ms": 100})


def test_percentiles_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="latencies; got none"):
        percentiles_ms([])


def test_a_line_fits_itself_and_a_parabola_less() -> None:
    x = [1.0, 2.0, 3.0, 4.0]
    assert r_squared(x, [3 + 2 * value for value in x]) == pytest.approx((3, 2, 1))
    assert r_squared(x, [value**4 for value in x])[2] < 0.9
