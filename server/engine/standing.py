"""Where a tenant stands among the others when it sends a request: what goes before it, and what room it may take."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from server.scheduler import Share, part_ahead

ROOM = 2.0
"""How many times the room that is still free a tenant of the largest weight may hold."""
FULL = 0.5
"""Share of the room up to which it is first come, first served."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another tenant, or this one, as far as the others are concerned."""

    num_pending: int
    weight: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One tenant's; `rivals` gives all tenants, itself among them, and is asked only near a limit."""

    share: Share
    floor: int
    num_pending: int
    rivals: Callable[[], Iterable[Rival]]

    def ahead(self, num_samples: int, num_pending: int) -> float:
        """Return which part of what is pending will go before its new samples."""
        if num_pending == self.num_pending:
            return 1.0
        others = sum(rival.weight for rival in self.rivals() if rival.num_pending > 0)
        weights = others if self.num_pending > 0 else others + self.share.weight
        return part_ahead(self.num_pending + num_samples, num_pending + num_samples, self.share.weight, weights)

    def may_hold(self, num_pending: int, limit: float) -> float:
        """Return the samples that it may have pending, so that there is always room for who comes next.

        Whatever it holds, a part of the room that its weight bounds stays free; a tenant without others takes it all.
        """
        rivals = list(self.rivals())
        if len(rivals) < 2 or num_pending <= FULL * limit:
            return limit
        largest = max(rival.weight for rival in rivals)
        return max(1.0, ROOM * self.share.weight / largest * (limit - num_pending))
