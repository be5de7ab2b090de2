"""Where usage and quotas outlive a restart: one small interface, and what it carries.

All methods block, so they are called from a thread of their own, never on the event loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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
class Batch:
    """What one server sends at once. A batch that comes again, after an answer was lost, counts once."""

    writer: str
    number: int
    spends: Sequence[Spend]
    usages: Sequence[Usage]


class Store(Protocol):
    """Remembers; several servers may share one.

    Raises: Unavailable where it cannot be reached or written.
    """

    def sync(self, batch: Batch, now_s: float) -> dict[str, float]:
        """Take a batch in, all of it or nothing; return what is left of each quota that it names.

        A quota refills, then pays; one that is new is full.
        Units: `now_s` is Unix time, for stores without a clock of their own.
        """
        ...

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        """Return the usage of some tenants, or of all, on each day from `since` on."""
        ...

    def close(self) -> None: ...


def refilled(level: float, at_s: float, spend: Spend, now_s: float) -> float:
    """Return what is left of a quota after it refilled and paid; a clock that went back refills nothing."""
    return min(spend.burst, level + spend.rate * max(0.0, now_s - at_s)) - spend.flops


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
