"""How many of those that wait to run together: the cheapest way to split them into executions."""

from collections.abc import Sequence


class Splits:
    """The first execution of the cheapest split, for any number of waiting samples.

    `costs` are the graphs' seconds by batch size, from 1 up to the largest allowed; each execution costs `fixed_s`
    more, whatever its size.
    """

    def __init__(self, costs: Sequence[float], fixed_s: float = 0.0) -> None:
        self.limit = len(costs)
        self._graph_costs = costs
        self._costs = costs = [cost + fixed_s for cost in costs]
        self._totals = [0.0]
        self._firsts = [0]
        self.best = max(range(1, len(costs) + 1), key=lambda size: (-costs[size - 1] / size, size))
        """The size at which a sample costs least; of equals the largest."""

    def first(self, num_waiting: int) -> int:
        """Return the size of the largest execution in a cheapest split; with plenty waiting, that is the best size."""
        if num_waiting >= 2 * self.limit:
            return self.best
        while len(self._totals) <= num_waiting:
            self._extend()
        return self._firsts[num_waiting]

    def knee(self, size: int, tolerance: float) -> int:
        """Return the smallest size at which the graphs cost a sample at most `tolerance` more than at `size`."""
        allowed = (1 + tolerance) * self._graph_costs[size - 1] / size
        return next(rows for rows in range(1, size + 1) if self._graph_costs[rows - 1] <= allowed * rows)

    def _extend(self) -> None:
        num_rows = len(self._totals)
        sizes = range(1, min(self.limit, num_rows) + 1)
        total, size = min((self._totals[num_rows - size] + self._costs[size - 1], -size) for size in sizes)
        self._totals.append(total)
        self._firsts.append(-size)
