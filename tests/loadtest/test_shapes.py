"""Shapes of closed-loop load, at chosen times."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.shapes import CALM, SHAPES, diurnal, replay, spike, step, users_at


@given(st.sampled_from(sorted(SHAPES)), st.floats(0, 100), st.integers(1, 500))
def test_there_is_always_somebody_and_never_more_than_the_peak(name: str, run_time_s: float, peak: int) -> None:
    users = users_at(SHAPES[name], run_time_s, 60, peak)
    assert (users is None) == (run_time_s >= 60)
    assert users is None or 1 <= users <= peak


def test_shapes_are_what_they_are_called() -> None:
    assert [step(passed) for passed in (0, 0.3, 0.6, 0.99)] == [0.25, 0.5, 0.75, 1.0]
    assert [spike(passed) for passed in (0, 0.5, 0.7)] == [CALM, 1.0, CALM]
    assert [diurnal(passed) for passed in (0, 0.5, 1)] == pytest.approx([CALM, 1.0, CALM])


def test_a_trace_is_replayed_by_its_density() -> None:
    shape = replay(np.concatenate([np.linspace(0, 30, 100), np.linspace(30, 60, 300)]))
    assert shape(0.75) == pytest.approx(3 * shape(0.25), rel=0.3)
    assert max(shape(passed) for passed in np.linspace(0, 1, 200)) == 1.0
