"""How long the tapes are that samples want: what the quality curve says, then what is read."""

from collections.abc import Iterable
from itertools import accumulate, pairwise

from server.models.manifest import Manifest, QualityCurve

MEMORY = 4096
"""Samples after which what was known before has faded to about a third."""


class TapeMix:
    """The distribution of tape lengths wanted.

    It starts from the curve: the mean tape rises from one cap to the next by the share of samples that want more.
    """

    def __init__(self, manifest: Manifest) -> None:
        reach = _reach(manifest.quality, manifest.tape_capacity)
        self._shares = [here - beyond for here, beyond in zip(reach, [*reach[1:], 0.0], strict=True)]

    def observe(self, lengths_wanted: Iterable[int]) -> None:
        """Learn the lengths that a batch wanted."""
        shares = self._shares
        counts = [0] * len(shares)
        num_samples = 0
        for length in lengths_wanted:
            counts[min(length, len(shares) - 1)] += 1
            num_samples += 1
        weight = 1 / (MEMORY + num_samples)
        keep = MEMORY * weight
        self._shares = [share * keep + count * weight for share, count in zip(shares, counts, strict=True)]

    def reach(self) -> list[float]:
        """Return, by length, the share of samples that want a tape at least that long."""
        return list(accumulate(reversed(self._shares)))[::-1]

    def mean_tape(self, cap: int) -> float:
        """Return the mean tape length under a cap."""
        return sum(self.reach()[1 : cap + 1])


def _reach(curve: QualityCurve, capacity: int) -> list[float]:
    """Return the curve's slope, made a survival function: from 1, never rising, never below 0."""
    means = {0: 0.0} | {point.cap: point.mean_tape_length for point in sorted(curve.points, key=lambda p: p.cap)}
    caps = sorted(cap for cap in means if cap <= capacity)
    reach = [1.0]
    for low, high in pairwise(caps):
        slope = (means[high] - means[low]) / (high - low)
        reach += [min(max(slope, 0.0), reach[-1])] * (high - low)
    return reach + [reach[-1]] * (capacity + 1 - len(reach))
