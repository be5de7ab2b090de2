"""Shrink before you shed: which cap keeps answers inside the service level, as a function of what is predicted.

    Outlook (what each cap would mean now)  ──>  Policy.decide  ──>  Choice (a cap, and why)
    times of answers                        ──>  Policy.observe

Everything here is pure: the caller brings the time and the predictions, and puts the choice into effect.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from typing import Protocol

FIRST_MARGIN, MARGIN_LIMITS = 0.7, (0.4, 0.7)
"""The share of the service level that predictions may fill. It moves so that at most 1 answer in 100 is late; above the
upper limit there would be no room for the pauses of a machine, which no prediction knows of."""
LATE_STEP, MET_STEP = 0.0198, 0.0002
OBJECTIVE = 1 - MET_STEP / (LATE_STEP + MET_STEP)
"""The share of answers that the service level asks for: where the two steps balance."""
CALM = 0.5
"""Below this share of the limit a queue that grows is let grow: it may be a burst that ends by itself."""
SPARE = 0.3
"""Below this share of the limit there is time for longer tapes, even if the load would not bear them for long."""
FULL, AMPLE = 0.95, 0.75
"""The share of the device that a load may take for good, and that it may take for rungs that add next to nothing."""
CALM_HOLDS = 10
"""For how many service levels of time nothing may have moved before such rungs are taken up: after a step of the load
the rate of arrivals looks low for a while."""
WORTH = 0.01
"""The accuracy that a rung must add to the one below for the device to be filled, or time to be risked, for it."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One cap worth having: a bucket. `accuracy` and `mean_tape` are the quality curve's."""

    cap: int
    accuracy: float
    mean_tape: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What each rung would mean now; rungs rise.

    Units: `answer_s[i]` is the predicted time from arrival to answer of a sample that comes now, were all that is
    not read yet capped at rung i; `demand[i]` is the share of the device that the present load would take.
    """

    rungs: Sequence[Rung]
    answer_s: Sequence[float]
    demand: Sequence[float]


@dataclass(frozen=True, slots=True)
class Choice:
    """An index into the rungs, and the reason for it."""

    rung: int
    reason: str


class Policy(Protocol):
    """Chooses the cap of one family. `least_rung` is the lowest that it would ever choose."""

    least_rung: int

    @property
    def limit_s(self) -> float:
        """Return the predicted time of an answer, at the lowest rung, beyond which a request is refused."""
        ...

    def decide(self, now: float, outlook: Outlook) -> Choice:
        """Choose for what is read from now on."""
        ...

    def observe(self, now: float, answer_s: float) -> None:
        """Learn how long an answer took."""
        ...


MakePolicy = Callable[[float, int], Policy]
"""From a service level in seconds and a number of rungs to a policy that starts at the top."""


class Controller:
    """Holds the 99th percentile of answer times at the service level with the longest tapes that allows.

    It lowers at once when answers are predicted late, and when a load that the device cannot bear has filled half of
    the time there is. It raises, at most once in each service level of time, when both the queue and the load allow
    more; with next to no queue it also tries the one rung next to what the load would allow for good, so that between
    two rungs it alternates and no time is left unused. Tapes that add little accuracy are for when there is time in
    plenty: what they would cost is the short tapes of whoever comes in the next burst.
    """

    least_rung = 0

    def __init__(self, slo_s: float, num_rungs: int) -> None:
        self._slo_s = slo_s
        self._margin = FIRST_MARGIN
        self._rung = num_rungs - 1
        self._moved_s = float("-inf")

    @property
    def limit_s(self) -> float:
        """Return half the margin that caps are given: refusing who might just make it helps nobody."""
        return (1 + self._margin) / 2 * self._slo_s

    @property
    def target_s(self) -> float:
        """Return the predicted time of an answer that caps are to keep."""
        return self._margin * self._slo_s

    def decide(self, now: float, outlook: Outlook) -> Choice:
        """Return the rung to use; see the class for when it moves."""
        choice = self._lower(outlook) or self._raise(outlook, now - self._moved_s)
        if choice is None:
            return Choice(self._rung, "as it was")
        self._rung, self._moved_s = choice.rung, now
        return choice

    def observe(self, now: float, answer_s: float) -> None:  # noqa: ARG002 - a late answer counts whenever it comes
        """Move the margin down a step for a late answer, up a 99th of it for one in time."""
        low, high = MARGIN_LIMITS
        step = -LATE_STEP if answer_s > self._slo_s else MET_STEP
        self._margin = min(max(self._margin + step, low), high)

    def _lower(self, outlook: Outlook) -> Choice | None:
        rung, answer_s = self._rung, outlook.answer_s[self._rung]
        if rung == 0:
            return None
        if answer_s > self.target_s:
            fits = last(each <= self.target_s for each in outlook.answer_s[:rung])
            return Choice(fits, f"answers predicted after {_ms(answer_s)}, limit {_ms(self.target_s)}")
        if answer_s <= CALM * self.target_s:
            return None
        if rung > (worthy := _worthy(outlook)):
            return Choice(worthy, f"answers predicted after {_ms(answer_s)}, and longer tapes add little")
        if outlook.demand[rung] > 1:
            bears = last(each <= FULL for each in outlook.demand[:rung])
            return Choice(bears, f"the load takes {outlook.demand[rung]:.2f} of the device")
        return None

    def _raise(self, outlook: Outlook, still_s: float) -> Choice | None:
        if still_s < self._slo_s:
            return None
        calm_s, spare_s = CALM * self.target_s, SPARE * self.target_s
        worthy = _worthy(outlook)
        highest = len(outlook.rungs) - 1 if still_s >= CALM_HOLDS * self._slo_s else worthy
        fits = last(answer_s <= calm_s for answer_s in outlook.answer_s)
        limits = (FULL if rung <= worthy else AMPLE for rung in range(len(outlook.rungs)))
        bears = min(highest, fits, last(demand <= most for demand, most in zip(outlook.demand, limits, strict=True)))
        if bears > self._rung:
            return Choice(bears, f"the load would take {outlook.demand[bears]:.2f} of the device")
        above = self._rung + 1
        tried = min(last(demand <= FULL for demand in outlook.demand) + 1, worthy)
        if above <= tried and outlook.answer_s[above] <= spare_s:
            return Choice(above, f"answers would still come after {_ms(outlook.answer_s[above])}")
        return None


def _worthy(outlook: Outlook) -> int:
    """Return the highest rung that adds accuracy worth speaking of to the one below it."""
    accuracies = [rung.accuracy for rung in outlook.rungs]
    return last([False, *(upper - lower >= WORTH for lower, upper in pairwise(accuracies))])


class ArrivalRate:
    """Samples a second, forgetting what is older than a few times `memory_s`."""

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._rate = 0.0
        self._seen_s = 0.0

    def add(self, now: float, num_samples: int) -> None:
        self._rate = self.at(now) + num_samples / self._memory_s
        self._seen_s = now

    def at(self, now: float) -> float:
        """Return the rate at a time."""
        return self._rate * exp((self._seen_s - now) / self._memory_s)


def last(flags: Iterable[bool]) -> int:
    """Return the index of the last true flag, 0 if none is."""
    return max((index for index, flag in enumerate(flags) if flag), default=0)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
