"""What a tenant's policy and quota make of a request, before it is let in."""

from dataclasses import dataclass, replace

from server.budget import Budget, Ceilings
from server.engine.admission import decide_budgets
from server.engine.families import Family
from server.engine.standing import Rival, Standing
from server.errors import ServeError
from server.records import InferRequest, Priority
from server.scheduler import Share
from server.tenancy import Account, Bill, Tenancy
from server.tenancy.quota import cost_flops

_URGENCY = {Priority.LOW: 0, Priority.NORMAL: 1, Priority.HIGH: 2}


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a request may come in: as its tenant may ask it, its budgets, its bill, not opened yet."""

    request: InferRequest
    budgets: list[Budget]
    bill: Bill
    standing: Standing


class Billing:
    """Judges requests by the account that pays for them."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy
        self._shares: dict[str, Share] = {}

    def judge(self, request: InferRequest, family: Family, now: float) -> Terms:
        """Return the terms of a request.

        Raises: QuotaExceeded; BadRequest for an ask that no cap can meet.
        """
        assert request.tenant is not None, "Only a tenant's request is billed. This is a bug."
        account = self._tenancy.account(request.tenant)
        policy = account.policy
        account.check_pending(request.num_samples)
        if _URGENCY[request.ask.priority] > _URGENCY[policy.max_priority]:
            request = replace(request, ask=replace(request.ask, priority=policy.max_priority))
        budgets = decide_budgets(request, family, Ceilings(policy=policy.max_tape))
        worst_flops, caps = family.budgets.worst_flops, [budget.cap for budget in budgets]
        quota = account.grant(worst_flops, caps, now)
        if quota is not None:
            budgets = decide_budgets(request, family, Ceilings(policy=policy.max_tape, quota=quota))
        capacity = family.manifest.tape_capacity
        reserved = cost_flops(worst_flops, caps, capacity if quota is None else quota)
        bill = Bill(account, request.model, len(caps), reserved, capacity)
        return Terms(request, budgets, bill, self._standing(account))

    def refused(self, tenant: str, error: ServeError) -> None:
        """Count a request that was not let in."""
        self._tenancy.account(tenant).meter.refused(error)

    def _standing(self, account: Account) -> Standing:
        share = self._shares.setdefault(account.name, Share())
        share.weight = account.policy.weight
        return Standing(share, account.policy.min_tape, account.num_pending, self._rivals)

    def _rivals(self) -> list[Rival]:
        accounts = map(self._tenancy.account, self._tenancy.tenants)
        return [Rival(account.num_pending, account.policy.weight) for account in accounts]
