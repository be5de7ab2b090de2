"""Policies of callers: which cap each request asks for, given the latencies that the caller has seen."""

from dataclasses import dataclass, field
from math import inf
from typing import Protocol


class Policy(Protocol):
    """Decides how much tape a request may read, from what a caller or server can see at the time."""

    name: str
    deadline_s: float

    def cap(self, now: float) -> int:
        """Return the cap of a request that arrives now."""
        ...

    def saw(self, now: float, latency_s: float) -> None:
        """Learn of an answer."""
        ...


@dataclass(slots=True)
class Fixed:
    """The same cap for everyone."""

    name: str
    at: int
    deadline_s: float = inf

    def cap(self, now: float) -> int:
        del now
        return self.at

    def saw(self, now: float, latency_s: float) -> None:
        del now, latency_s


@dataclass(slots=True)
class Aimd:
    """Additive increase of the cap while answers are in time, halving when one is late."""

    name: str
    slo_s: float
    capacity: int
    window_s: float = 0.1
    margin: float = 0.9
    deadline_s: float = inf
    _cap: int = field(init=False)
    _worst_s: float = 0.0
    _until_s: float = 0.0

    def __post_init__(self) -> None:
        self._cap = self.capacity

    def cap(self, now: float) -> int:
        if now >= self._until_s:
            if self._worst_s > self.slo_s * self.margin:
                self._cap //= 2
            elif self._worst_s > 0:
                self._cap = min(self._cap + 1, self.capacity)
            self._worst_s, self._until_s = 0.0, now + self.window_s
        return self._cap

    def saw(self, now: float, latency_s: float) -> None:
        del now
        self._worst_s = max(self._worst_s, latency_s)
