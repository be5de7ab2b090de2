"""What counts as growth, and how sure one can be of a slope."""

from math import inf

import numpy as np
import pytest

from loadtest.process import Footprint
from loadtest.soak.growth import MIN_JUDGED_S, fit, fit_line

SECONDS = range(7200)
NOISE_MB = np.random.default_rng(1).normal(0, 1.5, len(SECONDS))


def look(megabytes: float, descriptors: int = 20, threads: int = 9) -> Footprint:
    return Footprint(int(megabytes * 1e6), descriptors, threads)


def judge(megabytes, seconds=SECONDS, resting=(20, 20)):
    looks = [look(each) for each in megabytes]
    return fit(seconds, looks, (look(1, resting[0]), look(1, resting[1])))


def faults(growth):
    return [fault.split(";")[0] for fault in growth.faults]


def test_a_flat_run_does_not_grow_whatever_its_first_half_did():
    growth = judge([50 + min(second, 3000) / 100 + NOISE_MB[second] for second in SECONDS])
    assert growth.faults == []
    assert abs(growth.slope_bytes_per_h) < 2 * growth.interval_bytes_per_h < 2e6
    assert growth.resident_bytes == pytest.approx(80e6, rel=0.01)


def test_peaks_of_reloads_are_not_growth():
    assert judge([80 + 25 * (second % 20 == 0) for second in SECONDS]).slope_bytes_per_h == pytest.approx(0, abs=1)


def test_slow_growth_in_noise_is_found_in_two_hours():
    growth = judge([80 + 10 * second / 3600 + NOISE_MB[second] for second in SECONDS])
    assert growth.slope_bytes_per_h == pytest.approx(10e6, rel=0.1)
    assert faults(growth) == ["memory"]


def test_what_134_kb_a_reload_come_to_is_found_in_ten_minutes():
    seconds = SECONDS[:600]
    assert faults(judge([80 + 0.134 * (second // 10) + NOISE_MB[second] for second in seconds], seconds)) == ["memory"]


def test_memory_that_comes_and_goes_is_a_fault_whatever_its_slope():
    sawtooth = [100 + (second % 180) for second in SECONDS[:600]]
    assert "steadiness of memory" in faults(judge(sawtooth, SECONDS[:600]))
    assert judge([100 + 20 * (second % 10 == 0) for second in SECONDS[:600]], SECONDS[:600]).faults == []


def test_neighbours_that_are_alike_make_a_slope_less_certain():
    noise = np.random.default_rng(2).normal(0, 1, 30)
    wandering = np.cumsum(noise)
    wandering *= noise.std() / wandering.std()
    assert fit_line(range(30), wandering)[1] > 1.5 * fit_line(range(30), noise)[1]


def test_a_short_run_is_not_judged_by_its_memory_or_threads():
    for num_seconds, expected in ((2 * MIN_JUDGED_S - 20, []), (2 * MIN_JUDGED_S + 20, ["memory", "threads"])):
        seconds = range(int(num_seconds))
        looks = [look(80 + second / 10, threads=9 + second // 50) for second in seconds]
        assert faults(fit(seconds, looks, (look(1), look(1)))) == expected


def test_descriptors_that_stay_open_are_found():
    growing = [look(80, descriptors=20 + second // 600) for second in SECONDS]
    assert faults(fit(SECONDS, growing, (look(1), look(1)))) == ["descriptors"]
    assert faults(judge([80.0] * 7200, resting=(20, 25))) == ["descriptors at rest"]


def test_a_line_and_its_interval():
    noise = np.random.default_rng(3).normal(0, 1, (1000, 30))
    fits = [fit_line(range(30), each) for each in noise]
    covered = np.mean([abs(slope) <= interval for slope, interval in fits])
    assert 0.93 < covered < 0.99
    assert fit_line(range(30), [5 + 2 * second for second in range(30)]) == (pytest.approx(2), 0)
    assert fit_line([0, 1], [5, 7])[1] == inf
