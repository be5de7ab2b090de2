"""Puts a policy's choices into effect for one family, and remembers them."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.controller import ArrivalRate, Choice, Outlook, Policy, Rung
from server.metrics import ModelMeter
from server.models.manifest import Manifest
from server.scheduler import Costs

_log = logging.getLogger("adatape.controller")

NUM_MOVES_KEPT = 50
MEMORY_SLOS = 3.0
"""Over how many service levels of time the arrival rate is averaged."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of the cap. Units: `at_s` is monotonic."""

    at_s: float
    cap_before: int
    cap: int
    reason: str


class Pilot:
    """Steers the cap of one family by a policy. In a dry run everything happens but its effect.

    `caps` are what it chooses from: the buckets, because a cap between two costs what the larger does.
    """

    def __init__(
        self, manifest: Manifest, costs: Costs, meter: ModelMeter, policy: Policy, slo_s: float, *, is_dry_run: bool
    ) -> None:
        self.policy = policy
        self.slo_s = slo_s
        self.is_dry_run = is_dry_run
        self.caps = list(costs.buckets)
        self.rungs = to_rungs(manifest)
        self.rate = ArrivalRate(MEMORY_SLOS * slo_s)
        self.cap = self.caps[-1]
        self.moves: deque[Move] = deque(maxlen=NUM_MOVES_KEPT)
        self.outlook: Outlook | None = None
        self._name = manifest.family
        self._costs = costs
        self._meter = meter
        self._least_cap = 0

    @property
    def ceiling(self) -> int:
        """Return the cap that is in effect."""
        return self._costs.capacity if self.is_dry_run else self.cap

    @property
    def least_cap(self) -> int:
        """Return the smallest cap that could be chosen."""
        return max(self._least_cap, self.caps[self.policy.least_rung])

    def hold_back(self, least_cap: int) -> None:
        """Choose nothing below a cap, whatever the policy says."""
        self._least_cap = least_cap

    def steer(self, now: float, answer_s: Sequence[float], num_instances: int) -> None:
        """Let the policy decide on when a newcomer would be answered at each of `caps`."""
        sample_s, rate = self._costs.sample_s, self.rate.at(now)
        demand = [rate * sample_s[cap] / num_instances for cap in self.caps]
        self.outlook = Outlook(self.rungs, answer_s, demand)
        choice = self.policy.decide(now, self.outlook)
        cap = max(self.caps[choice.rung], self._least_cap)
        if cap != self.cap:
            self._move(now, cap, choice)

    def settled(self, now: float, answer_s: float) -> None:
        """Learn how long an answer took."""
        self.policy.observe(now, answer_s)
        self._meter.measured(is_met=answer_s <= self.slo_s)

    def _move(self, now: float, cap: int, choice: Choice) -> None:
        move = Move(now, self.cap, cap, choice.reason)
        self.moves.append(move)
        self._meter.moved(is_up=cap > self.cap)
        place = (self._name, move.cap_before, cap, move.reason, self.is_dry_run)
        _log.info("cap_moved model=%s from=%d to=%d reason=%r dry_run=%s", *place)
        self.cap = cap


def to_rungs(manifest: Manifest) -> list[Rung]:
    """Return a rung for each bucket, with what the quality curve says of it, between its points if need be."""
    points = sorted(manifest.quality.points, key=lambda point: point.cap)
    caps = [point.cap for point in points]
    accuracies = np.interp(manifest.buckets, caps, [point.accuracy for point in points]).tolist()
    tapes = np.interp(manifest.buckets, caps, [point.mean_tape_length for point in points]).tolist()
    return [Rung(*values) for values in zip(manifest.buckets, accuracies, tapes, strict=True)]
