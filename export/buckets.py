"""Which tape capacities to compile: the buckets that execute the fewest FLOPs in expectation. Pure.

Terms: `shares[t]` is the share of requests whose tape is t tokens long; `costs[t]` the FLOPs of a trunk over t tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from export.errors import ExportError


@dataclass(frozen=True, slots=True)
class Expectation:
    """Expected trunk FLOPs a sample: with these buckets, with one for every length, and with none but the largest."""

    buckets: tuple[int, ...]
    executed: float
    oracle: float
    pad_to_max: float

    def __str__(self) -> str:
        over = self.executed / self.oracle - 1
        saved = 1 - self.executed / self.pad_to_max
        return (
            f"buckets {', '.join(map(str, self.buckets))}: {self.executed / 1e6:.2f} MFLOPs expected in the trunk, "
            f"{over:.1%} above one bucket a length ({self.oracle / 1e6:.2f}), "
            f"{saved:.1%} below padding to the longest ({self.pad_to_max / 1e6:.2f})"
        )


def used_shares(wanted: Sequence[int], capped_share: float) -> list[float]:
    """Return the shares of tape lengths used, when some requests come with a cap.

    `wanted[t]` counts samples whose reading halts at t tokens by itself; `capped_share` of the requests
    have a cap, drawn evenly from 1 to the tape capacity.
    """
    capacity, total = len(wanted) - 1, sum(wanted)
    shares = [(1 - capped_share) * count / total for count in wanted]
    for cap in range(1, capacity + 1):
        for length, count in enumerate(wanted):
            shares[min(length, cap)] += capped_share / capacity * count / total
    return shares


def choose_buckets(shares: Sequence[float], costs: Sequence[float], num_buckets: int) -> tuple[int, ...]:
    """Return the `num_buckets` buckets with the lowest expected cost, always with 0 and the capacity.

    Costs grow with the length. Of equally good choices the one with the larger buckets is taken.
    Raises: ExportError if there are more buckets than lengths, or fewer than two.
    """
    capacity = len(costs) - 1
    if not 2 <= num_buckets <= capacity + 1:
        raise ExportError.of("--num-buckets", num_buckets, f"2 to {capacity + 1} for a tape capacity of {capacity}")
    # best[t]: the lowest cost of lengths 0..t with the buckets so far, the last of which is t; and those buckets
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (shares[0] * costs[0], (0,))}
    for _ in range(num_buckets - 1):
        best = {last: _best_before(best, last, shares, costs) for last in range(1, capacity + 1) if min(best) < last}
    return best[capacity][1]


def _best_before(
    best: dict[int, tuple[float, tuple[int, ...]]], last: int, shares: Sequence[float], costs: Sequence[float]
) -> tuple[float, tuple[int, ...]]:
    choices = (
        (cost + sum(shares[previous + 1 : last + 1]) * costs[last], (*buckets, last))
        for previous, (cost, buckets) in best.items()
        if previous < last
    )
    return min(choices, key=lambda choice: (choice[0], [-bucket for bucket in choice[1]]))


def check_buckets(buckets: Sequence[int], capacity: int) -> tuple[int, ...]:
    """Return hand-picked buckets.

    Raises: ExportError unless they increase from 0 to the capacity.
    """
    is_valid = list(buckets) == sorted(set(buckets)) and buckets[0] == 0 and buckets[-1] == capacity
    if not is_valid:
        raise ExportError.of("--buckets", ",".join(map(str, buckets)), f"increasing from 0 to {capacity}")
    return tuple(buckets)


def expected_flops(shares: Sequence[float], costs: Sequence[float], buckets: Sequence[int]) -> Expectation:
    """Return what a choice of buckets costs, between the best there could be and the worst."""
    bucket_of = [next(bucket for bucket in buckets if bucket >= length) for length in range(len(costs))]
    return Expectation(
        tuple(buckets),
        executed=sum(share * costs[bucket] for share, bucket in zip(shares, bucket_of, strict=True)),
        oracle=sum(share * cost for share, cost in zip(shares, costs, strict=True)),
        pad_to_max=sum(shares) * costs[-1],
    )
