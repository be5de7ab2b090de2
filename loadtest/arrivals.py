"""The times at which requests arrive in an open load model: no request waits for an earlier answer.

Units: seconds from the start, increasing; rates are requests a second.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]

BURST_FACTOR = 4.0
"""A burst comes at this many times the calm rate."""
BURST_SHARE = 0.2
"""Share of the time that is burst."""
MEAN_BURST_S = 0.5


def poisson(rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """Return arrivals that know nothing of each other."""
    return _draw(rng, np.array([rate]), np.array([duration_s]))


def steps(rates: list[float], step_s: float, rng: np.random.Generator) -> Times:
    """Return Poisson arrivals whose rate changes at each multiple of `step_s`."""
    return _draw(rng, np.array(rates), np.full(len(rates), step_s))


def bursty(rate: float, duration_s: float, rng: np.random.Generator) -> Times:
    """Return arrivals that switch between a calm and a burst rate at random; `rate` is their mean."""
    calm = rate / (1 - BURST_SHARE + BURST_SHARE * BURST_FACTOR)
    mean_calm_s = MEAN_BURST_S * (1 - BURST_SHARE) / BURST_SHARE
    spans: list[float] = []
    while sum(spans) < duration_s:
        spans += [rng.exponential(mean_calm_s), rng.exponential(MEAN_BURST_S)]
    rates = calm * np.where(np.arange(len(spans)) % 2, BURST_FACTOR, 1.0)
    times = _draw(rng, rates, np.array(spans))
    return times[times < duration_s]


def read_trace(path: Path) -> Times:
    """Read the arrivals of a CSV with a column `arrival_s`, shifted to start at 0.

    Raises: ValueError if there is no such column, a value that is no number, or fewer than two arrivals.
    """
    lines = path.read_text(encoding="utf-8").split()
    if not lines or lines[0].split(",")[0] != "arrival_s":
        raise ValueError(f"arrivals; got first line {lines[:1]}; expected a column arrival_s, and it first")
    try:
        times = np.sort(np.array([line.split(",")[0] for line in lines[1:]], np.float64))
    except ValueError as error:
        raise ValueError(f"arrivals; got {error}; expected seconds") from error
    if len(times) < 2 or not np.isfinite(times).all() or times[0] == times[-1]:
        raise ValueError(f"arrivals; got {len(times)} of them; expected at least 2, at different times")
    shifted: Times = times - times[0]
    return shifted


def scale(times: Times, rate: float, duration_s: float) -> Times:
    """Compress a trace to a mean rate, shape kept, and cut or repeat it to last `duration_s`."""
    period_s = len(times) / rate
    compressed = times * (period_s / (times[-1] * len(times) / (len(times) - 1)))
    repeats = int(np.ceil(duration_s / period_s))
    tiled = np.concatenate([compressed + turn * period_s for turn in range(repeats)])
    return tiled[tiled < duration_s]


def _draw(rng: np.random.Generator, rates: Times, spans_s: Times) -> Times:
    """Draw a Poisson number of arrivals in each span and spread them evenly at random in it."""
    starts = np.concatenate([[0.0], np.cumsum(spans_s)[:-1]])
    counts = rng.poisson(rates * spans_s)
    return np.sort(np.repeat(starts, counts) + rng.random(counts.sum()) * np.repeat(spans_s, counts))
