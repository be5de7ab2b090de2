"""The number of closed-loop users over time: pure functions from the time to a share of the peak."""

from collections.abc import Callable, Mapping
from math import cos, pi

import numpy as np

from loadtest.arrivals import Times

Shape = Callable[[float], float]
"""From the share of the run that has passed, 0 to 1, to the share of the peak number of users."""

NUM_STEPS = 4
CALM = 0.1
"""Outside the spike, and at night."""
SPIKE = (0.4, 0.6)
TRACE_SLICES = 60


def step(passed: float) -> float:
    """Rise in equal steps to the peak."""
    return (min(int(passed * NUM_STEPS), NUM_STEPS - 1) + 1) / NUM_STEPS


def spike(passed: float) -> float:
    """Stand at the peak for the middle fifth, and stay calm before and after."""
    return 1.0 if SPIKE[0] <= passed < SPIKE[1] else CALM


def diurnal(passed: float) -> float:
    """Go through a day, from night over the peak at noon to night."""
    return CALM + (1 - CALM) * (1 - cos(2 * pi * passed)) / 2


SHAPES: Mapping[str, Shape] = {"step": step, "spike": spike, "diurnal": diurnal}


def replay(times_s: Times) -> Shape:
    """Return the shape of a trace: its arrivals in each slice of the run, beside those of its busiest one."""
    counts = np.histogram(times_s, TRACE_SLICES)[0]
    shares = (counts / counts.max()).tolist()
    return lambda passed: float(shares[min(int(passed * TRACE_SLICES), TRACE_SLICES - 1)])


def users_at(shape: Shape, run_time_s: float, duration_s: float, peak: int) -> int | None:
    """Return the users at a time of a run; None once it is over. Somebody always asks."""
    if run_time_s >= duration_s:
        return None
    return max(1, round(peak * shape(run_time_s / duration_s)))
