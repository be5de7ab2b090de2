"""Where each image stops reading, by worth and price, and how good that is against stopping everyone at one prefix.

Shape legend: N images, P prefixes.
Units: MFLOPs; prices in accuracy points for 100 MFLOPs; accuracies from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Estimates = Sequence[NDArray[np.float32]]
FULL_TOLERANCE = 0.003
"""How far below full tape the default price may leave the accuracy."""


def stops(estimates: Estimates, mflops_P: Sequence[float], price: float) -> NDArray[np.int64]:
    """Return the number of the prefix at which each image stops.

    An image at a prefix reads on if some later prefix promises more accuracy than its compute is worth at this price.
    """
    cost_P = np.asarray(mflops_P)
    stopped_N = np.full(len(estimates[0]), len(cost_P) - 1)
    for number in reversed(range(len(cost_P) - 1)):
        gain_NP = 100 * (estimates[number][:, 1:] - estimates[number][:, :1])
        asked_P = price * (cost_P[number + 1 :] - cost_P[number]) / 100
        stopped_N = np.where((gain_NP > asked_P).any(axis=1), stopped_N, number)
    return stopped_N


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a price led to on one set of images."""

    price: float
    accuracy: float
    mean_mflops: float
    mean_tape: float


@dataclass(frozen=True)
class Measured:
    """Answers to one set of images at all prefixes, with their estimates.

    Shapes: right_NP; loss_N at prefix 0.
    """

    prefixes: tuple[int, ...]
    mflops_P: tuple[float, ...]
    right_NP: NDArray[np.bool_]
    estimates: Estimates
    loss_N: NDArray[np.float32]

    def at_price(self, price: float) -> Outcome:
        """Return accuracy and mean cost where everyone pays this price."""
        return self.outcome(price, stops(self.estimates, self.mflops_P, price))

    def outcome(self, price: float, stopped_N: NDArray[np.int64]) -> Outcome:
        right_N = np.take_along_axis(self.right_NP, stopped_N[:, None], 1)
        mflops_N, tape_N = np.asarray(self.mflops_P)[stopped_N], np.asarray(self.prefixes)[stopped_N]
        return Outcome(price, float(right_N.mean()), float(mflops_N.mean()), float(tape_N.mean()))

    def price_of(self, mean_mflops: float) -> float:
        """Return the lowest price whose mean cost is at most this."""
        low, high = 0.0, 1e4
        if self.at_price(low).mean_mflops <= mean_mflops:
            return low
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.at_price(middle).mean_mflops <= mean_mflops else (middle, high)
        return high

    def default_price(self) -> float:
        """Return the largest price that leaves accuracy within `FULL_TOLERANCE` of full tape."""
        wanted = float(self.right_NP[:, -1].mean()) - FULL_TOLERANCE
        prices = np.concatenate([[0.0], np.geomspace(0.01, 1000, 400)])
        return max((float(price) for price in prices if self.at_price(float(price)).accuracy >= wanted), default=0.0)


def fixed_accuracy(mflops_P: Sequence[float], accuracy_P: Sequence[float], mean_mflops: float) -> float:
    """Return the best accuracy of a mixture of fixed prefixes at this mean cost: the upper hull, between its ends."""
    hull = _hull(mflops_P, accuracy_P)
    return float(np.interp(mean_mflops, [cost for cost, _ in hull], [accuracy for _, accuracy in hull]))


def fixed_mflops(mflops_P: Sequence[float], accuracy_P: Sequence[float], accuracy: float) -> float:
    """Return the least mean cost of a mixture of fixed prefixes with this accuracy; infinite where none has it."""
    hull = _hull(mflops_P, accuracy_P)
    for (cost, low), (next_cost, high) in pairwise(hull):
        if low <= accuracy <= high and high > low:
            return cost + (next_cost - cost) * (accuracy - low) / (high - low)
    return hull[0][0] if accuracy <= hull[0][1] else float("inf")


def _hull(mflops_P: Sequence[float], accuracy_P: Sequence[float]) -> list[tuple[float, float]]:
    """Return the corners of the upper hull up to the best prefix, from cheap to dear."""
    hull: list[tuple[float, float]] = []
    for point in sorted(zip(mflops_P, accuracy_P, strict=True)):
        if hull and point[1] <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], point) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(start: tuple[float, float], end: tuple[float, float]) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])
