"""Whether the memory, descriptors and threads of a server grow over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from loadtest.process import Footprint

NUM_BLOCKS = 30
"""Memory is judged by the medians of so many stretches of the second half, which the peaks of reloads do not move."""
MIN_JUDGED_S = 240.0
"""A shorter half is not judged: pools and allocators still fill."""
MAX_SLOPE_SHARE_PER_H = 0.05
MIN_GROWTH_BYTES = 1e6
"""Memory grows if all of the slope's interval is above this share of what is held an hour, and if that came to this
many bytes in the half that is judged."""
MAX_DOUBT_SHARE = 0.1
"""How much of what is held the judged half may have gained or lost for all that is known: beyond it, memory that comes
and goes hides what stays."""
MAX_COUNT_GROWTH = 4
"""How many descriptors or threads more the last quarter may hold than the second, in the median; and at rest, how many
descriptors more after the traffic than before."""
ROUNDING = 1e-20
Z = 1.96
"""Of a normal distribution 95 % lies within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What was fitted; `interval_bytes_per_h` is half of the 95 % interval.

    Units: bytes, bytes an hour, hours; counts before and after.
    """

    resident_bytes: float
    slope_bytes_per_h: float
    interval_bytes_per_h: float
    judged_h: float
    descriptors: tuple[float, float]
    threads: tuple[float, float]
    resting_descriptors: tuple[float, float]

    @property
    def least_bytes_per_h(self) -> float:
        """Return the lower end of the interval."""
        return self.slope_bytes_per_h - self.interval_bytes_per_h

    @property
    def is_judged(self) -> bool:
        """Say whether the run was long enough to judge its memory and threads."""
        return self.judged_h * 3600 >= MIN_JUDGED_S

    @property
    def faults(self) -> list[str]:
        """Return what grew."""
        found = []
        allowed = max(MAX_SLOPE_SHARE_PER_H * self.resident_bytes, MIN_GROWTH_BYTES / self.judged_h)
        if self.is_judged and self.least_bytes_per_h > allowed:
            got = f"{self.slope_bytes_per_h / 1e6:+.1f} ± {self.interval_bytes_per_h / 1e6:.1f} MB/h"
            found.append(f"memory; got {got}; expected at most {allowed / 1e6:.1f} within the interval")
        doubt_bytes = self.interval_bytes_per_h * self.judged_h
        if self.is_judged and doubt_bytes > MAX_DOUBT_SHARE * self.resident_bytes:
            got = f"a change known to ± {doubt_bytes / 1e6:.1f} MB alone"
            expected = f"at most {MAX_DOUBT_SHARE:.0%} of {self.resident_bytes / 1e6:.0f} MB"
            found.append(f"steadiness of memory; got {got}; expected {expected}")
        counts: dict[str, tuple[float, float]] = {"descriptors at rest": self.resting_descriptors}
        if self.is_judged:
            counts |= {"descriptors": self.descriptors, "threads": self.threads}
        for name, (before, after) in counts.items():
            if after - before > MAX_COUNT_GROWTH:
                found.append(f"{name}; got {after:g} after {before:g}; expected at most {MAX_COUNT_GROWTH} more")
        return found


def fit(times_s: Sequence[float], looks: Sequence[Footprint], resting: tuple[Footprint, Footprint]) -> Growth:
    """Fit a straight line to the second half's memory, and compare the counts of the second and last quarter.

    `resting` is what was held before and after the traffic.
    """
    seconds, resident = np.array(times_s), np.array([look.resident_bytes for look in looks], float)
    second_half = seconds >= (seconds[0] + seconds[-1]) / 2
    blocks_s, medians = _to_blocks(seconds[second_half], resident[second_half])
    slope, interval = fit_line(blocks_s, medians)
    return Growth(
        resident_bytes=float(np.median(medians)),
        slope_bytes_per_h=slope * 3600,
        interval_bytes_per_h=interval * 3600,
        judged_h=float(seconds[-1] - seconds[0]) / 2 / 3600,
        descriptors=_quarters([look.num_descriptors for look in looks]),
        threads=_quarters([look.num_threads for look in looks]),
        resting_descriptors=(resting[0].num_descriptors, resting[1].num_descriptors),
    )


def fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Return the slope by least squares, and half of its 95 % interval; infinite where there is too little to tell.

    Neighbours that resemble one another count as fewer observations.
    Source: Santer et al. 2000, https://doi.org/10.1029/1999JD901105, section 4.
    """
    across, values = np.asarray(x, float), np.asarray(y, float)
    slope, start = np.polyfit(across, values, 1)
    rest = values - (start + slope * across)
    power = float(rest @ rest)
    if len(across) > 2 and power < ROUNDING * float(values @ values):
        return float(slope), 0.0
    likeness = max(0.0, float(rest[1:] @ rest[:-1]) / power) if power > 0 else 0.0
    freedom = len(across) * (1 - likeness) / (1 + likeness) - 2
    if freedom < 1:
        return float(slope), inf
    spread = float(((across - across.mean()) ** 2).sum())
    return float(slope), _student(freedom) * sqrt(power / freedom / spread)


def _student(freedom: float) -> float:
    """Return about how many standard errors hold 95 %, by the first terms of an expansion in 1 / freedom."""
    return Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)


def _to_blocks(seconds: np.ndarray, values: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the mean time and the median value of each stretch."""
    parts = [part for part in np.array_split(np.arange(len(seconds)), NUM_BLOCKS) if len(part)]
    return [float(seconds[part].mean()) for part in parts], [float(np.median(values[part])) for part in parts]


def _quarters(values: Sequence[int]) -> tuple[float, float]:
    quarter = max(1, len(values) // 4)
    return float(np.median(values[quarter : 2 * quarter])), float(np.median(values[-quarter:]))
