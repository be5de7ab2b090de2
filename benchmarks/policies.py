"""Alternatives to the server's controller, with the same interface: `server.controller.Policy`.

fixed      one cap, whatever the load (the top one: a server without budgets; the bottom one: all it can shed)
aimd       additive increase, multiplicative decrease of the cap on late answers (as TCP does with its window)
slackfit   the largest cap whose predicted answer time fits the slack that is left, anew for each decision
           (the policy of SuperServe, Khare et al., NSDI 2025, with our caps for its subnetworks)
"""

from collections.abc import Mapping
from functools import partial

from server.controller import Choice, Controller, MakePolicy, Outlook, last

AIMD_STEP = 1.0
AIMD_FACTOR = 0.5


class FixedCap:
    """Always the same rung, counted from the bottom; negative from the top. Refuses what that would answer late."""

    def __init__(self, slo_s: float, num_rungs: int, *, rung: int) -> None:
        self.limit_s = slo_s
        self.least_rung = rung % num_rungs

    def decide(self, now: float, outlook: Outlook) -> Choice:  # noqa: ARG002 - it looks at nothing
        return Choice(self.least_rung, "fixed")

    def observe(self, now: float, answer_s: float) -> None:
        """Learn nothing."""


class Aimd:
    """One rung up for each service level of time without a late answer, half of the rungs down after one with."""

    least_rung = 0

    def __init__(self, slo_s: float, num_rungs: int) -> None:
        self.limit_s = slo_s
        self._level = self._top = float(num_rungs - 1)
        self._is_late = False
        self._turned_s: float | None = None

    def decide(self, now: float, outlook: Outlook) -> Choice:  # noqa: ARG002 - it learns from answers alone
        turned_s = now if self._turned_s is None else self._turned_s
        self._turned_s = turned_s
        if now - turned_s >= self.limit_s:
            self._level = self._level * AIMD_FACTOR if self._is_late else min(self._level + AIMD_STEP, self._top)
            self._turned_s, self._is_late = now, False
        return Choice(int(self._level), "late answers" if self._level < self._top else "none late")

    def observe(self, now: float, answer_s: float) -> None:  # noqa: ARG002 - it asks only what, not when
        self._is_late |= answer_s > self.limit_s


class SlackFit:
    """The largest rung whose answers are predicted in time; no memory, no margin."""

    least_rung = 0

    def __init__(self, slo_s: float, num_rungs: int) -> None:  # noqa: ARG002 - it starts where the outlook says
        self.limit_s = slo_s

    def decide(self, now: float, outlook: Outlook) -> Choice:  # noqa: ARG002 - it has no memory
        return Choice(last(answer_s <= self.limit_s for answer_s in outlook.answer_s), "fits the slack")

    def observe(self, now: float, answer_s: float) -> None:
        """Learn nothing."""


POLICIES: Mapping[str, MakePolicy] = {
    "controller": Controller,
    "full": partial(FixedCap, rung=-1),
    "zero": partial(FixedCap, rung=0),
    "aimd": Aimd,
    "slackfit": SlackFit,
}
