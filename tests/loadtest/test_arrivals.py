"""Arrivals: rates, order and shape."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import bursty, poisson, read_trace, scale, steps


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 1000), st.floats(1, 200), st.floats(0.1, 20))
def test_arrivals_come_in_order_and_in_time(seed: int, rate: float, duration_s: float) -> None:
    for times in (poisson(rate, duration_s, rng(seed)), bursty(rate, duration_s, rng(seed))):
        assert (np.diff(times) >= 0).all()
        assert ((times >= 0) & (times < duration_s)).all()


def test_poisson_has_its_rate_and_its_scatter() -> None:
    times = poisson(1000, 50, rng())
    assert len(times) == pytest.approx(50_000, rel=0.02)
    gaps = np.diff(times)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.03)


def test_bursts_keep_the_mean_rate_but_scatter_more() -> None:
    times = bursty(200, 400, rng())
    assert len(times) == pytest.approx(80_000, rel=0.1)
    counts = np.histogram(times, bins=800)[0]
    assert counts.var() > 5 * counts.mean()


def test_steps_change_the_rate() -> None:
    counts = np.histogram(steps([100, 300], 20, rng()), bins=[0, 20, 40])[0]
    assert counts[1] / counts[0] == pytest.approx(3, rel=0.15)


def test_a_trace_is_read_shifted_and_sorted(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("arrival_s\n5.0\n7.0\n6.0\n")
    assert read_trace(tmp_path / "trace.csv").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("when\n1\n2\n", "expected a column arrival_s"), ("", "first line"), ("arrival_s\n1\n", "at least 2")],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trace(tmp_path / "trace.csv")


@given(st.floats(10, 500), st.floats(1, 30))
def test_a_scaled_trace_has_the_rate_asked_for(rate: float, duration_s: float) -> None:
    trace = np.sort(np.concatenate([rng().random(300), 5 + rng(1).random(100)]))
    times = scale(trace - trace[0], rate, duration_s)
    assert (np.diff(times) >= 0).all()
    assert (times < duration_s).all()
    period_s = len(trace) / rate
    if duration_s >= period_s:
        assert len(times) / duration_s == pytest.approx(rate, rel=0.5 + period_s / duration_s)
