"""The curve's arithmetic: intervals, means, and what counts as different."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adatape.curve import Curve, CurvePoint, SplitId, build_curve, differences, wilson_interval
from adatape.flops import StageFlops

FLOPS = StageFlops(embed=100, bank=10, read_step=2, trunk=(1000, 1100, 1300, 1600))
WANTED = np.array([1, 3, 2, 3])
CORRECT = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], bool)
SAMPLES = SplitId("digits", "validation", "0" * 64)


@pytest.fixture
def curve() -> Curve:
    return build_curve(SAMPLES, [0, 1, 3], CORRECT, WANTED, FLOPS)


def test_each_point_summarises_its_cap(curve: Curve) -> None:
    assert [point.cap for point in curve.points] == [0, 1, 3]
    assert [point.accuracy for point in curve.points] == [0.25, 0.5, 0.75]
    assert [point.mean_tape_length for point in curve.points] == [0, 1, 2.25]
    assert {point.mean_tape_length_wanted for point in curve.points} == {2.25}
    full = 110 + (1 * 2 + 1100 + 2 * 2 + 1300 + 2 * (3 * 2 + 1600)) / 4
    assert [point.mean_flops for point in curve.points] == [1100, 110 + 2 + 1100, full]
    assert (curve.num_samples, curve.histogram) == (4, (0, 1, 1, 2))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_against_published_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10**6).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def changed(curve: Curve, **changes: float) -> Curve:
    last: CurvePoint = curve.points[-1]
    moved = replace(last, **{name: getattr(last, name) + change for name, change in changes.items()})
    return replace(curve, points=(*curve.points[:-1], moved))


def test_a_curve_does_not_differ_from_itself(curve: Curve) -> None:
    assert differences(curve, curve) == []


@pytest.mark.parametrize(
    ("changes", "is_different"),
    [
        ({"accuracy": 0.0019}, False),
        ({"accuracy": 0.0021}, True),
        ({"accuracy": -0.0021}, True),
        ({"accuracy": float("nan")}, True),
        ({"mean_tape_length": 0.049}, False),
        ({"mean_tape_length": -0.051}, True),
        ({"mean_tape_length_wanted": 0.051}, True),
        ({"mean_flops": 10.0}, False),
        ({"mean_flops": 20.0}, True),
    ],
)
def test_what_counts_as_different(curve: Curve, changes: dict[str, float], is_different: bool) -> None:
    assert bool(differences(curve, changed(curve, **changes))) == is_different


def test_other_samples_or_missing_caps_are_different(curve: Curve) -> None:
    assert differences(curve, replace(curve, data_digest="1" * 64)) == [
        f"data_digest; got {'1' * 64}; expected {'0' * 64}"
    ]
    assert differences(curve, replace(curve, points=curve.points[:-1])) == ["cap 3; got none; expected a point"]
    assert differences(replace(curve, points=curve.points[:-1]), curve) == []


@pytest.mark.parametrize("data", [{}, {"points": [{"cap": 0}]}, {"points": 3}])
def test_what_is_no_curve_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="quality curve; got"):
        Curve.from_dict(data)
