"""May this request come in? Refuse early, cheaply, with a reason."""

from collections.abc import Callable
from math import ceil, inf

from server.budget import NO_CEILINGS, Budget, Ceilings
from server.engine.dispatch import Dispatcher
from server.engine.families import Family
from server.engine.pilot import Pilot
from server.engine.standing import Standing
from server.errors import DeadlineExceeded, Overloaded
from server.records import InferRequest, Priority
from server.scheduler import due_s
from server.settings import Settings

DOUBLINGS = 2
"""How far beyond its own a new deadline is checked against those of others: twice its slack, and twice that."""


class Gate:
    """Bounds what is pending, in samples and in predicted seconds, and turns away who would come too late anyway."""

    def __init__(self, settings: Settings, dispatcher: Dispatcher, num_pending: Callable[[], int]) -> None:
        self._max_samples = settings.max_pending_samples
        self._max_s = settings.max_pending_s
        self._dispatcher = dispatcher
        self._num_pending = num_pending

    def check(
        self,
        request: InferRequest,
        family: Family,
        budgets: list[Budget],
        deadline_s: float,
        now: float,
        standing: Standing | None = None,
    ) -> None:
        """Refuse a request that there is no room or no time for.

        Predictions cost more than a request that is sure to pass should: where even the dearest samples, each alone,
        would not fill a limit, nothing is predicted. Where tenants share the device, only that part of what is pending
        counts that goes before this tenant's.
        Raises: Overloaded with the predicted time until there would be room; DeadlineExceeded.
        """
        num_pending = self._num_pending()
        self._check_samples(len(budgets), num_pending, family, now, standing)
        ahead = 1.0
        if num_pending > 0:
            worst_s = (num_pending + len(budgets)) * self._dispatcher.worst_sample_s
            limit_s = self._max_s if family.pilot is None else min(self._max_s, family.pilot.policy.limit_s)
            if standing is not None and (worst_s > limit_s or deadline_s < inf):
                ahead = standing.ahead(len(budgets), num_pending)
            if worst_s > self._max_s:
                self._check_seconds(family, budgets, now, ahead)
            if family.pilot is not None and worst_s > family.pilot.policy.limit_s:
                self._check_service(request, family, family.pilot, now, ahead)
        if deadline_s < inf:
            self._check_deadline(request, family, deadline_s, now, ahead)

    def _check_samples(
        self, num_samples: int, num_pending: int, family: Family, now: float, standing: Standing | None
    ) -> None:
        excess = num_pending + num_samples - self._max_samples
        if standing is not None and standing.num_pending > 0:
            most = standing.may_hold(num_pending, self._max_samples)
            excess = max(excess, standing.num_pending + num_samples - most)
        if excess <= 0:
            return
        # Answers come a batch at a time.
        chunk = min(num_pending, family.costs.max_batch_size)
        share = min(1.0, ceil(excess / chunk) * chunk / num_pending)
        raise Overloaded(
            "server",
            f"{num_samples} samples beside {num_pending} pending",
            f"at most {self._max_samples} pending",
            retry_after_s=share * self._dispatcher.backlog_s(now),
            cause="samples",
        )

    def _check_seconds(self, family: Family, budgets: list[Budget], now: float, ahead: float) -> None:
        """Ask for room for all of a request; an idle server, which is not asked, takes any."""
        own_s = sum(family.costs.sample_s[budget.cap] for budget in budgets) / self._dispatcher.num_instances
        backlog_s = self._dispatcher.backlog_s(now) * ahead
        if backlog_s + own_s > self._max_s:
            got = f"{own_s:.3g} s of work beside {backlog_s:.3g} s pending"
            retry_after_s = min(backlog_s, backlog_s + own_s - self._max_s)
            expected = f"at most {self._max_s:g} s pending"
            raise Overloaded("server", got, expected, retry_after_s=retry_after_s, cause="seconds")

    def _check_service(self, request: InferRequest, family: Family, pilot: Pilot, now: float, ahead: float) -> None:
        """Shed what even the smallest budget, given to all that is not read yet, would answer late."""
        if pilot.is_dry_run or request.ask.priority is Priority.LOW:
            return
        cap = pilot.least_cap
        answer_s = max(family.costs.alone_s(cap), self._dispatcher.newcomer_s(family, cap, now) * ahead)
        answer_s += (request.num_samples - 1) * family.costs.sample_s[cap] / self._dispatcher.num_instances
        answer_s += now - request.arrival_s
        if answer_s > pilot.policy.limit_s:
            got = f"an answer predicted after {answer_s:.3g} s at max_tape {cap}"
            expected = f"one within {pilot.policy.limit_s:.3g} s"
            retry_after_s = answer_s - pilot.policy.limit_s
            raise Overloaded("server", got, expected, retry_after_s=retry_after_s, cause="service_level")

    def _check_deadline(
        self, request: InferRequest, family: Family, deadline_s: float, now: float, ahead: float
    ) -> None:
        """Ask for room before the deadline, and, so that nobody who was let in is pushed out, before later ones."""
        costs, most_s = family.costs, self._dispatcher.backlog_s(now) * ahead if ahead < 1 else inf

        def wait_s(due_s: float, now: float, *, is_deadline: bool = False) -> float:
            return min(most_s, self._dispatcher.wait_s(due_s, now, is_deadline=is_deadline))

        own_s = max(costs.alone_s(0), request.num_samples * costs.hurried_s(0) / self._dispatcher.num_instances)
        slack_s = deadline_s - now
        late_s = wait_s(due_s(request.arrival_s, deadline_s, request.ask.priority), now) + own_s - slack_s
        for _ in range(DOUBLINGS):
            slack_s *= 2
            late_s = max(late_s, wait_s(now + slack_s, now, is_deadline=True) + own_s - slack_s)
        if late_s > 0:
            needed_s = deadline_s + late_s - request.arrival_s
            expected = f"at least {needed_s:.3g} s, predicted for max_tape 0"
            raise DeadlineExceeded("deadline", f"{request.ask.deadline_s:g} s", expected, cause="admission")


def decide_budgets(request: InferRequest, family: Family, ceilings: Ceilings = NO_CEILINGS) -> list[Budget]:
    """Return the budget of each sample, under the ceilings of its tenant.

    Raises: BadRequest for an ask that no cap can meet.
    """
    decide = family.budgets.decide
    if request.max_tape_B is None:
        return [decide(request.ask, None, ceilings)] * request.num_samples
    by_cap = {max_tape: decide(request.ask, max_tape, ceilings) for max_tape in set(request.max_tape_B)}
    return [by_cap[max_tape] for max_tape in request.max_tape_B]
