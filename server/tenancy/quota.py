"""How much a tenant may still spend, and which cap that allows: pure arithmetic, the caller passes the time.

Quotas count useful FLOPs: what a tenant's own samples needed, whatever batch or bucket the server chose for them.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf


@dataclass(slots=True)
class TokenBucket:
    """A token bucket of FLOPs; it starts full.

    A request is charged the most that it can cost when it is admitted, and paid back the rest when it is settled. So at
    most `burst + rate * t` is spent in any t seconds. Only work that ran without an answer takes the level below 0.
    Units: `rate` is FLOPs a second; `burst` and `level` are FLOPs; `at_s` is when `level` was true, on any clock.
    """

    rate: float
    burst: float
    level: float
    at_s: float

    @classmethod
    def full(cls, rate: float, burst: float, now: float) -> "TokenBucket":
        return cls(rate, burst, burst, now)

    def left(self, now: float) -> float:
        """Return the FLOPs that may be spent; a clock that went back refills nothing."""
        if now > self.at_s:
            self.level = min(self.burst, self.level + self.rate * (now - self.at_s))
        self.at_s = now
        return self.level

    def spend(self, flops: float, now: float) -> None:
        """Take FLOPs out, or put them back if negative."""
        self.level = min(self.burst, self.left(now) - flops)

    def wait_s(self, flops: float, now: float) -> float:
        """Return the seconds until there are that many; infinity if there never are."""
        if flops > self.burst:
            return inf
        return max(0.0, (flops - self.left(now)) / self.rate)

    def reshape(self, rate: float, burst: float, now: float) -> None:
        """Use another rate and burst; what is left stays, up to the new burst."""
        self.level = min(burst, self.left(now))
        self.rate, self.burst = rate, burst


def cost_flops(worst_flops: Sequence[int], caps: Sequence[int], ceiling: int) -> int:
    """Return the most that samples of these caps can cost under a ceiling; `worst_flops` is by cap, for one sample."""
    return sum(worst_flops[min(cap, ceiling)] for cap in caps)


def grant_cap(
    left: float, soft_flops: float, worst_flops: Sequence[int], caps: Sequence[int], least_cap: int
) -> int | None:
    """Return the ceiling that what is left allows on samples of these caps; None if not even `least_cap` is left.

    Below `soft_flops` the ceiling shrinks evenly with what is left, from full tape to none, so that a tenant near its
    quota is served more shortly before it is refused. It never falls below `least_cap`, and all samples together never
    cost more than is left.
    """
    least_cap = min(least_cap, len(worst_flops) - 1)
    if cost_flops(worst_flops, caps, least_cap) > left:
        return None
    share = left / len(caps)
    if left < soft_flops:
        share = min(share, worst_flops[0] + (worst_flops[-1] - worst_flops[0]) * left / soft_flops)
    return max(least_cap, bisect_right(worst_flops, share) - 1)
