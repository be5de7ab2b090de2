"""What a server holds over time, and whether it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.serving import Footprint

WARM_SHARE = 0.25
"""The first part of a run, in which allocators and pools fill, is not judged."""
MAX_GROWTH_SHARE = 0.05
MAX_COUNT_GROWTH = 4
"""How many descriptors or threads more the last quarter may hold than the second, in the median."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What was fitted. Units: bytes, bytes an hour; counts."""

    resident_bytes: float
    slope_bytes_per_h: float
    growth_bytes: float
    descriptors: tuple[float, float]
    threads: tuple[float, float]

    @property
    def faults(self) -> list[str]:
        """Return what grew."""
        found = []
        if self.growth_bytes > MAX_GROWTH_SHARE * self.resident_bytes:
            share = f"at most {MAX_GROWTH_SHARE:.0%} of {self.resident_bytes / 1e6:.0f} MB"
            found.append(f"memory; got {self.growth_bytes / 1e6:.1f} MB more at the end; expected {share}")
        for name, (before, after) in {"descriptors": self.descriptors, "threads": self.threads}.items():
            if after - before > MAX_COUNT_GROWTH:
                found.append(f"{name}; got {after:g} after {before:g}; expected no growth")
        return found


def fit(times_s: Sequence[float], looks: Sequence[Footprint]) -> Growth:
    """Fit a straight line to the memory after warm-up, and compare the counts of the second and last quarter."""
    first = int(len(looks) * WARM_SHARE)
    seconds = np.array(times_s[first:])
    resident = np.array([look.resident_bytes for look in looks[first:]], float)
    slope, start = np.polyfit(seconds, resident, 1)
    return Growth(
        resident_bytes=float(start + slope * seconds[0]),
        slope_bytes_per_h=float(slope) * 3600,
        growth_bytes=float(slope * (seconds[-1] - seconds[0])),
        descriptors=_quarters([look.num_descriptors for look in looks]),
        threads=_quarters([look.num_threads for look in looks]),
    )


def _quarters(values: Sequence[int]) -> tuple[float, float]:
    quarter = max(1, len(values) // 4)
    return float(np.median(values[quarter : 2 * quarter])), float(np.median(values[-quarter:]))
