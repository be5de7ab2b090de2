"""The interface of a store, which keeps usage and quotas across restarts, and the records it takes and returns.

All methods block, so they are called on a thread of their own, never on the event loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant used of one model on one day (UTC): sums over receipts, and FLOPs that ran without an answer.

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
    """What a tenant spent of its quota since the last sync, below 0 if more was paid back; and how it refills.

    Units: `ago_s` is how long ago it began to spend; the quota was not charged before.
    """

    tenant: str
    flops: float
    rate: float
    burst: float
    ago_s: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageBatch:
    """What one server sends in one call. A batch that is sent again, after its answer was lost, counts once."""

    writer: str
    number: int
    spends: Sequence[Spend]
    usages: Sequence[Usage]


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A time on two clocks: the wall clock, which may step, and a monotonic one, which counts since the boot `boot`.

    Units: `wall_s` is Unix seconds; `steady_s` counts from one moment that all processes of the machine share.
    """

    wall_s: float
    steady_s: float
    boot: str

    def since_s(self, other: "Timestamp") -> float:
        """Return the seconds since another timestamp; the wall clock counts only across a reboot of the machine."""
        if self.boot == other.boot and self.steady_s >= other.steady_s:
            return self.steady_s - other.steady_s
        return max(0.0, self.wall_s - other.wall_s)


def read_boot() -> str:
    """Return the identifier of this boot of the machine; empty where the system has none."""
    return _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""


class Store(Protocol):
    """Keeps usage and quotas; several servers may share one.

    Raises: Unavailable where it cannot be reached or written.
    """

    def sync(self, batch: UsageBatch, now: Timestamp) -> dict[str, float]:
        """Apply a batch, all of it or nothing; return what is left of each quota that it names.

        A quota is refilled up to when it began to be spent, charged, and refilled up to now; a new one is full. `now`
        is for stores without a clock of their own.
        """
        ...

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        """Return the usage of some tenants, or of all, on each day from `since` on."""
        ...

    def close(self) -> None: ...


def refilled(level: float, seconds: float, spend: Spend) -> float:
    """Return what is left of a quota after it refilled for some seconds and was charged in the last `ago_s` of them.

    Charging at the end would lose what a full quota cannot hold, and a caller who retries at the time it was given
    would be refused; charging at the start would give more than the quota ever held.
    """
    after_s = min(seconds, spend.ago_s)
    level = min(spend.burst, level + spend.rate * (seconds - after_s))
    return min(spend.burst, level - spend.flops + spend.rate * after_s)
