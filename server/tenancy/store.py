"""Where usage and quotas outlive a restart: one small interface, and what it carries.

All methods block, so they are called from a thread of their own, never on the event loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant has had of one model on one day (UTC): sums over receipts, and what ran without an answer.

    Units: FLOPs.
    """

    tenant: str
    model: str
    day: str
    num_requests: int = 0
    num_samples: int = 0
    useful_flops: int = 0
    executed_flops: int = 0
    wasted_flops: int = 0


COUNTS = ("num_requests", "num_samples", "useful_flops", "executed_flops", "wasted_flops")


@dataclass(frozen=True, slots=True)
class Spend:
    """What has gone out of a tenant's quota since the last sync, and how the quota refills; may be below 0."""

    tenant: str
    flops: float
    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What one server sends at once. A batch that comes again, after an answer was lost, counts once."""

    writer: str
    number: int
    spends: Sequence[Spend]
    usages: Sequence[Usage]


@dataclass(frozen=True, slots=True)
class Moment:
    """A time on two clocks: the wall's, which may step, and one that only counts since the machine's start `boot`.

    Units: Unix seconds; seconds since any one moment that all processes of the machine share.
    """

    wall_s: float
    steady_s: float
    boot: str

    def since_s(self, other: "Moment") -> float:
        """Return the seconds since another moment; the wall clock is asked only across a start of the machine."""
        if self.boot == other.boot and self.steady_s >= other.steady_s:
            return self.steady_s - other.steady_s
        return max(0.0, self.wall_s - other.wall_s)


def read_boot() -> str:
    """Return what tells this start of the machine from others; empty where the system does not say."""
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""


class Store(Protocol):
    """Remembers; several servers may share one.

    Raises: Unavailable where it cannot be reached or written.
    """

    def sync(self, batch: UsageBatch, now: Moment) -> dict[str, float]:
        """Take a batch in, all of it or nothing; return what is left of each quota that it names.

        A quota pays, then refills, so it holds no less than its server promised; one that is new is full. `now` is for
        stores without a clock of their own.
        """
        ...

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        """Return the usage of some tenants, or of all, on each day from `since` on."""
        ...

    def close(self) -> None: ...


def refilled(level: float, seconds: float, spend: Spend) -> float:
    """Return what is left of a quota after it paid and refilled for some seconds.

    When in that time it paid is not known. Refilling first would lose what a full quota could not hold, and with it
    what its server promised: a retry at the time told would be refused.
    """
    return min(spend.burst, level - spend.flops + spend.rate * seconds)


def open_store(url: str) -> Store:
    """Open the store that a `quota_store` setting names.

    Raises: Unavailable where it cannot be opened.
    """
    kind, _, place = url.partition(":")
    if kind == "memory":
        from server.tenancy.sqlite_store import SqliteStore

        return SqliteStore(":memory:")
    if kind == "sqlite":
        from server.tenancy.sqlite_store import SqliteStore

        return SqliteStore(place)
    from server.tenancy.redis_store import RedisStore

    return RedisStore(url)
