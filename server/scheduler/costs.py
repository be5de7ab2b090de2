"""What a sample costs the device under each cap, and how many samples are best run together."""

from server.models.manifest import Manifest
from server.scheduler.lanes import Stage
from server.scheduler.latency import LatencyModel, flops_of
from server.scheduler.mix import TapeMix
from server.scheduler.splits import Splits

REFRESH_EVERY = 16
"""Executions between two looks at what they taught; predictions move slowly, looking costs about as much as one."""
KNEE_TOLERANCE = 0.25
"""How much more a sample may cost in a batch kept small for a deadline's sake."""
TURN_S = 1e-3
"""What an execution costs beside its graphs at the least, whatever has been seen: a turn of the event loop that finds
its caches full of weights, and what that turn leaves for the graphs. It speaks for the larger of two equal sizes."""
CAUTION = 2.0
"""Spreads by which a deadline's plan may be wrong."""
HURRY = 2.0
"""How much more a sample costs where deadlines decide the batches: they are smaller, and of mixed buckets."""

Place = tuple[Stage, int]


class Costs:
    """One family's predictions on one device, kept current by `observe` and `observe_tapes`.

    Units: device seconds. `sample_s[cap]` is a whole answer's share of well-filled executions; `share_s[stage, bucket]`
    is one execution's, `place_s[stage, bucket]` what is still to run for a sample that waits there, and `least_s`
    the same for one that has the device for itself, at the smallest budget that is open to it. `worst_s` is a whole
    answer's at full tape with the device for itself.
    """

    def __init__(
        self, manifest: Manifest, latency: LatencyModel, max_batch_size: int, max_execution_s: float = float("inf")
    ) -> None:
        self.capacity = manifest.tape_capacity
        self.buckets = manifest.buckets
        self.bucket_of = [manifest.bucket_for(length) for length in range(self.capacity + 1)]
        self.max_batch_size = max_batch_size
        self.latency = latency
        self.mix = TapeMix(manifest)
        self._flops = manifest.flops
        self.sample_s: list[float] = []
        self.share_s: dict[Place, float] = {}
        self.place_s: dict[Place, float] = {}
        self.least_s: dict[Place, float] = {}
        self.worst_s = 0.0
        self._max_execution_s = max_execution_s
        self.places: list[Place] = [(Stage.EMBED, 0), (Stage.READ, 0), *((Stage.TRUNK, b) for b in self.buckets)]
        self._splits: dict[Place, Splits] = {}
        self._shapes: dict[Place, tuple[int, float]] = {}
        """What the splits were worked out for: the largest batch, and what each takes beside its rows."""
        self._num_observed = 0
        self._max_batches: dict[Place, int] = {}
        self.refresh()

    def flops(self, stage: Stage, bucket: int) -> int:
        """Return the FLOPs that run for a sample in one execution."""
        return flops_of(self._flops, stage, bucket)

    def predict_s(self, stage: Stage, bucket: int, batch: int) -> float:
        """Return what an execution should take."""
        return self.latency.predict_s(stage, bucket, batch)

    def observe(self, stage: Stage, bucket: int, batch: int, actual_s: float) -> None:
        """Learn what an execution really took."""
        self.latency.observe(stage, bucket, batch, actual_s)
        self._num_observed += 1
        if self._num_observed % REFRESH_EVERY == 0:
            self.refresh()

    def limit_batch(self, stage: Stage, bucket: int, size: int) -> None:
        """Form no larger batch there any more, whatever would be cheapest."""
        self._max_batches[stage, bucket] = size
        self.refresh()

    def splits(self, stage: Stage, bucket: int) -> Splits:
        """Return how best to split what waits there into executions of bounded time."""
        return self._splits[stage, bucket]

    def usable_s(self, seconds: float) -> float:
        """Return how much of a slack may be planned with: executions scatter around their predictions."""
        return seconds / (1 + CAUTION * self.latency.spread)

    def hurried_s(self, cap: int) -> float:
        """Return a sample's cost under a cap in the small batches that deadlines make."""
        return HURRY * self.sample_s[cap]

    def trunk_s(self, cap: int, batch: int) -> float:
        """Return what the trunk takes until the last of a reader batch is through, were all of it under one cap."""
        read_s = self.share_s[Stage.READ if cap > 0 else Stage.EMBED, 0]
        return max(self.least_s[Stage.TRUNK, self.bucket_of[cap]], batch * (self.sample_s[cap] - read_s))

    def cap_within(self, slack_s: float, cap: int, batch: int) -> int:
        """Return the largest cap, of at most `cap`, whose trunk fits into a slack; 0 if none does."""
        if self.trunk_s(cap, batch) <= slack_s:
            return cap
        fitting = (each for each in reversed(self.buckets) if each < cap and self.trunk_s(each, batch) <= slack_s)
        return next(fitting, 0)

    def alone_s(self, cap: int) -> float:
        """Return what an answer takes at the longest tape that a cap allows with the device for itself."""
        stage = Stage.READ if cap > 0 else Stage.EMBED
        return self.predict_s(stage, 0, 1) + self.predict_s(Stage.TRUNK, self.bucket_of[cap], 1)

    def mean_flops(self) -> list[float]:
        """Return, by cap, the FLOPs that run for a sample on average, were nothing but its own bucket run for it."""
        flops, reach = self._flops, self.mix.reach()
        trunk = [flops.trunk[bucket] for bucket in self.bucket_of]
        means, below = [], 0.0
        for cap in range(self.capacity + 1):
            means.append(flops.read_executed(is_reading=cap > 0) + below + reach[cap] * trunk[cap])
            below += (reach[cap] - (reach[cap + 1] if cap < self.capacity else 0.0)) * trunk[cap]
        return means

    def refresh(self) -> None:
        """Work everything out anew."""
        for place in self.places:
            most = self._max_batches.get(place, self.max_batch_size)
            limit = max(1, self.latency.fit(*place, self._max_execution_s, most))
            fixed_s = max(TURN_S, self.latency.overhead_in_steps_s)
            if self._shapes.get(place) != (limit, fixed_s):
                self._shapes[place] = (limit, fixed_s)
                self._splits[place] = Splits(self.latency.table(*place, limit), fixed_s)
        reach = self.mix.reach()
        share_s = self.share_s = {place: self._share_s(*place, reach) for place in self.places}
        trunk_s = [share_s[Stage.TRUNK, bucket] for bucket in self.bucket_of]
        means_s, below_s = [], 0.0
        for cap in range(self.capacity + 1):
            means_s.append(below_s + reach[cap] * trunk_s[cap])
            beyond = reach[cap + 1] if cap < self.capacity else 0.0
            below_s += (reach[cap] - beyond) * trunk_s[cap]
        embed_s, read_s = share_s[Stage.EMBED, 0], share_s[Stage.READ, 0]
        self.sample_s = [embed_s + means_s[0], *(read_s + mean_s for mean_s in means_s[1:])]
        alone_s = self.alone_s(0)
        trunks_s = {(stage, bucket): self.predict_s(stage, bucket, 1) for stage, bucket in self.places}
        self.least_s = trunks_s | {(Stage.EMBED, 0): alone_s, (Stage.READ, 0): alone_s}
        self.worst_s = self.alone_s(self.capacity)
        self.place_s = share_s | {(Stage.EMBED, 0): self.sample_s[0], (Stage.READ, 0): self.sample_s[-1]}

    def _share_s(self, stage: Stage, bucket: int, reach: list[float]) -> float:
        """Return a sample's share of an execution that is as full as a flow of samples fills it."""
        best = self.splits(stage, bucket).best
        if stage is Stage.TRUNK and bucket > 0:
            smaller = self.buckets[self.buckets.index(bucket) - 1]
            best = max(1, round(best * reach[smaller + 1]))
        return self.predict_s(stage, bucket, best) / best
