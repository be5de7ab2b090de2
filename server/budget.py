"""Who gets how much tape, and by which rule: pure arithmetic on a manifest and an ask."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from server.errors import BadRequest
from server.models.manifest import Manifest
from server.records import BudgetReason, RequestLimits


@dataclass(frozen=True, slots=True)
class Budget:
    """A sample's effective cap, the rule that set it, and the cap that the caller's own ask came to."""

    cap: int
    reason: BudgetReason
    asked_cap: int


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Caps that others than the caller impose; None does not bind."""

    policy: int | None = None
    degraded: int | None = None
    deadline: int | None = None
    quota: int | None = None


NO_CEILINGS = Ceilings()


class BudgetTable:
    """What each cap of one family can cost and is worth, worked out once."""

    def __init__(self, manifest: Manifest) -> None:
        self.capacity = manifest.tape_capacity
        lengths = range(self.capacity + 1)
        self.worst_flops = list(accumulate((manifest.flops.useful(length, length) for length in lengths), max))
        """By cap: the most useful FLOPs that a sample can need under it."""
        self.accuracies = sorted((point.cap, point.accuracy) for point in manifest.quality.points)
        self._unbound = Budget(self.capacity, BudgetReason.MODEL, self.capacity)

    def decide(
        self, ask: RequestLimits, sample_max_tape: int | None = None, ceilings: Ceilings = NO_CEILINGS
    ) -> Budget:
        """Return the smallest of all caps, with the reason of the rule that bound it.

        `sample_max_tape` is the sample's own cap beside the request's. On a tie the caller's rule is named first,
        then the order of `Ceilings`; a rule at or above the tape capacity binds nothing.
        Raises: BadRequest for an ask that makes no sense or that no cap can meet.
        """
        if sample_max_tape is None and ceilings is NO_CEILINGS and _is_empty(ask):
            return self._unbound
        asked = self._asked_cap(ask, sample_max_tape)
        cap, reason = asked, BudgetReason.REQUESTED if asked < self.capacity else BudgetReason.MODEL
        for ceiling, rule in (
            (ceilings.policy, BudgetReason.POLICY),
            (ceilings.degraded, BudgetReason.DEGRADED),
            (ceilings.deadline, BudgetReason.DEADLINE),
            (ceilings.quota, BudgetReason.QUOTA),
        ):
            if ceiling is not None and ceiling < cap:
                cap, reason = max(ceiling, 0), rule
        return Budget(cap, reason, asked)

    def cap_for_flops(self, max_flops: float) -> int:
        """Return the largest cap under which no sample needs more useful FLOPs than this.

        Raises: BadRequest, naming the minimum, if even cap 0 needs more.
        """
        if not max_flops >= self.worst_flops[0]:
            raise BadRequest("max_flops", max_flops, f"at least {self.worst_flops[0]}, the cost of max_tape 0")
        return bisect_right(self.worst_flops, max_flops) - 1

    def cap_for_accuracy(self, min_accuracy: float) -> int:
        """Return the smallest cap of the quality curve that reaches this accuracy.

        Raises: BadRequest, naming the best, if none does.
        """
        if not min_accuracy >= 0:
            raise BadRequest("min_accuracy", min_accuracy, "a fraction between 0 and 1")
        for cap, accuracy in self.accuracies:
            if accuracy >= min_accuracy:
                return min(cap, self.capacity)
        best = max(accuracy for _, accuracy in self.accuracies)
        raise BadRequest("min_accuracy", min_accuracy, f"at most {best:.4g}, the best of the quality curve")

    def _asked_cap(self, ask: RequestLimits, sample_max_tape: int | None) -> int:
        if ask.deadline_s is not None and not ask.deadline_s > 0:
            raise BadRequest("deadline", ask.deadline_s, "seconds above 0")
        cap = self.capacity
        for max_tape in (ask.max_tape, sample_max_tape):
            if max_tape is not None:
                cap = min(cap, _checked_max_tape(max_tape))
        if ask.max_flops is not None:
            cap = min(cap, self.cap_for_flops(ask.max_flops))
        if ask.min_accuracy is not None:
            enough = self.cap_for_accuracy(ask.min_accuracy)
            if enough > cap:
                raise BadRequest(
                    "min_accuracy", ask.min_accuracy, f"a fraction that max_tape {cap} reaches; it needs {enough}"
                )
            cap = enough
        return cap


def _is_empty(ask: RequestLimits) -> bool:
    return ask.max_tape is None and ask.max_flops is None and ask.min_accuracy is None and ask.deadline_s is None


def _checked_max_tape(max_tape: int) -> int:
    if max_tape < 0:
        raise BadRequest("max_tape", max_tape, "an integer of at least 0")
    return max_tape
