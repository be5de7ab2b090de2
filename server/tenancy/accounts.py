"""What each tenant may spend and has spent while the server runs: all of tenancy that the request path touches.

Plain arithmetic on the event loop's thread. The caller passes the time, and `StoreSync` sends the changes to a store.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from server.errors import QuotaExceeded, ServeError
from server.metrics import TenantMeter
from server.records import InferAnswer
from server.tenancy.quota import TokenBucket, cost_flops, grant_cap
from server.tenancy.store import Spend, Usage
from server.tenancy.tenants_file import TenantPolicy

RETRY_PENDING_S = 1.0
"""When to try again after too many pending samples: about when some of them are answered."""


@dataclass(slots=True)
class UnsentUsage:
    """What a tenant used of one model since the last batch to the store. Units: FLOPs."""

    num_requests: int = 0
    num_samples: int = 0
    useful_flops: int = 0
    executed_flops: int = 0
    wasted_flops: int = 0


@dataclass(slots=True, eq=False)
class Account:
    """One tenant.

    Units: `moved_flops` is what it spent of its quota since the last sync, less what was paid back; `moved_since_s` is
    when it began to.
    """

    name: str
    policy: TenantPolicy
    meter: TenantMeter
    bucket: TokenBucket | None = None
    num_pending: int = 0
    moved_flops: float = 0.0
    moved_since_s: float | None = None
    unsent: dict[str, UnsentUsage] = field(default_factory=dict)

    def set_policy(self, policy: TenantPolicy, now: float) -> None:
        """Use another policy from now on; what is left of the quota stays."""
        self.policy = policy
        if policy.flops_per_s is None:
            self.bucket = None
        elif self.bucket is None:
            self.bucket = TokenBucket.full(policy.flops_per_s, policy.burst, now)
        else:
            self.bucket.reshape(policy.flops_per_s, policy.burst, now)

    def check_pending(self, num_samples: int) -> None:
        """Return if so many more samples may be pending.

        Raises: QuotaExceeded.
        """
        limit = self.policy.max_pending_samples
        if limit is not None and self.num_pending + num_samples > limit:
            raise QuotaExceeded(
                f"pending samples of {self.name}",
                f"{num_samples} beside {self.num_pending}",
                f"at most {limit}",
                retry_after_s=RETRY_PENDING_S if num_samples <= limit else None,
            )

    def grant(self, worst_flops: Sequence[int], caps: Sequence[int], now: float) -> int | None:
        """Return the ceiling that the quota allows on samples of these caps; None where it does not bind.

        Raises: QuotaExceeded with the time until there is enough left; without one where there never is.
        """
        bucket, policy = self.bucket, self.policy
        if bucket is None:
            return None
        left = bucket.left(now)
        ceiling = grant_cap(left, policy.soft_share * policy.burst, worst_flops, caps, policy.min_tape)
        if ceiling is None:
            least_cap = min(policy.min_tape, len(worst_flops) - 1)
            needed = cost_flops(worst_flops, caps, least_cap)
            wait_s = bucket.wait_s(needed, now)
            where = f"for {len(caps)} samples at max_tape {least_cap}"
            got = f"{max(0.0, left):.3g} FLOPs left of {bucket.burst:.3g}"
            expected = f"at least {needed:.3g} {where}"
            raise QuotaExceeded(
                f"quota of {self.name}", got, expected, retry_after_s=wait_s if isfinite(wait_s) else None
            )
        return ceiling if ceiling < len(worst_flops) - 1 else None

    def pay(self, flops: float, now: float) -> None:
        """Take FLOPs out of the quota, or put them back if negative."""
        if self.bucket is not None:
            self.bucket.spend(flops, now)
            self.moved_flops += flops
            if self.moved_since_s is None:
                self.moved_since_s = now

    def unsent_usage(self, model: str) -> UnsentUsage:
        usage = self.unsent.get(model)
        if usage is None:
            usage = self.unsent[model] = UnsentUsage()
        return usage

    def set_level(self, level: float, now: float) -> None:
        """Set what is left of the quota as the store returned it, less what was spent since the store was asked."""
        if self.bucket is not None:
            self.bucket.left(now)
            self.bucket.level = min(self.bucket.burst, level) - self.moved_flops

    def take_spend(self, now: float) -> Spend | None:
        """Return what was spent since the last call, and start again at 0; None without a quota."""
        if self.bucket is None:
            return None
        flops, self.moved_flops = self.moved_flops, 0.0
        since_s, self.moved_since_s = self.moved_since_s, None
        ago_s = 0.0 if since_s is None else max(0.0, now - since_s)
        return Spend(self.name, flops, self.bucket.rate, self.bucket.burst, ago_s)

    def take_usages(self, day: str) -> list[Usage]:
        """Return what was used since the last call, dated on that day, and start again at 0."""
        unsent, self.unsent = self.unsent, {}
        return [
            Usage(
                self.name,
                model,
                day,
                usage.num_requests,
                usage.num_samples,
                usage.useful_flops,
                usage.executed_flops,
                usage.wasted_flops,
            )
            for model, usage in unsent.items()
        ]


class Bill:
    """The charge of one request: `reserved_flops` from its admission until it is settled, then what it really cost."""

    __slots__ = ("account", "model", "num_samples", "reserved_flops", "tape_capacity")

    def __init__(self, account: Account, model: str, num_samples: int, reserved_flops: int, tape_capacity: int) -> None:
        self.account = account
        self.model = model
        self.num_samples = num_samples
        self.reserved_flops = reserved_flops
        self.tape_capacity = tape_capacity

    def open(self, now: float) -> None:
        """Admit the request: reserve its FLOPs."""
        self.account.num_pending += self.num_samples
        self.account.pay(self.reserved_flops, now)

    def answered(self, answer: InferAnswer, now: float) -> None:
        """Charge what the receipts say."""
        receipts = [sample.receipt for sample in answer.samples]
        useful, executed = sum(r.useful_flops for r in receipts), sum(r.executed_flops for r in receipts)
        usage = self.account.unsent_usage(self.model)
        usage.num_requests += 1
        usage.num_samples += len(receipts)
        usage.useful_flops += useful
        usage.executed_flops += executed
        self._close(useful, now)
        self.account.meter.answered(receipts, self.tape_capacity, useful, executed)

    def failed(self, error: ServeError, spent_flops: int, now: float) -> None:
        """Charge what ran without an answer: a caller who disconnects pays for it, too."""
        self._close(0, now)
        self.account.meter.refused(error)
        self.wasted(spent_flops, now)

    def wasted(self, flops: int, now: float) -> None:
        """Charge FLOPs that ran for a request that is not, or no longer, to be answered."""
        if flops:
            self.account.unsent_usage(self.model).wasted_flops += flops
            self.account.pay(flops, now)
            self.account.meter.wasted(flops)

    def _close(self, flops: int, now: float) -> None:
        self.account.num_pending -= self.num_samples
        self.account.pay(flops - self.reserved_flops, now)
