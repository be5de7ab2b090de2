"""A simulation of the server in fake time: the real scheduler, fitted costs of executions, and given arrivals.

What is simulated: one core that forms batches by the server's own `Scheduler`, runs one execution at a time, and
spends a fitted time on each request and on each execution beside the graphs' own; and, where there is a service
level, the server's policy, which sees what it would see there. What is not: the network, the garbage collector and
other programs, but for the scatter of executions that is fitted too.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.caller_policies import Policy
from loadtest.arrivals import Times
from loadtest.load import Outcomes
from server.controller import ArrivalRate, Controller, MakePolicy, Outlook
from server.engine.pilot import MEMORY_SLOS, to_rungs
from server.models.manifest import Manifest
from server.scheduler import Batch, Costs, LatencyModel, Scheduler, Stage, Ticket
from server.settings import Settings

MODEL = "model"
PATIENCE_S = 1.0
OK, EXPIRED, SHED = 200, 504, 503
MAX_EXECUTION_S: float = Settings.model_fields["max_execution_s"].default


@dataclass(frozen=True, slots=True)
class Fitted:
    """What executions take here, measured, and what the server adds.

    Units: seconds. `tables[stage, bucket][batch - 1]` is an execution; `request_s` is spent on each request while the
    core does nothing else, `execution_s` on each execution beside the graph. `scatter` is the standard deviation of the
    logarithm of what an execution takes.
    """

    tables: dict[tuple[str, int], list[float]]
    request_s: float = 0.0
    execution_s: float = 0.0
    scatter: float = 0.0

    def seconds(self, stage: Stage, bucket: int, batch: int) -> float:
        """Return how long an execution keeps the core."""
        graph_s = self.tables[stage.value, bucket][batch - 1]
        return graph_s + self.execution_s + (self.request_s * batch if stage is Stage.TRUNK else 0.0)


def to_table(points: Sequence[tuple[int, float]], limit: int) -> list[float]:
    """Fill in batch sizes between those measured, along straight lines."""
    batches, seconds = zip(*sorted(points), strict=True)
    return [float(each) for each in np.interp(np.arange(1, limit + 1), batches, seconds)]


@dataclass(slots=True)
class _Request(Ticket):
    number: int = 0
    arrival_s: float = 0.0


@dataclass(slots=True)
class Simulated:
    """What came of each request, and under which cap it was answered."""

    outcomes: Outcomes
    caps: list[int]


class Steering:
    """The server's side of a service level: a policy, what it is shown, and what it does, as the engine does it."""

    def __init__(
        self, manifest: Manifest, costs: Costs, scheduler: Scheduler[_Request], slo_s: float, make: MakePolicy
    ) -> None:
        self._costs, self._scheduler = costs, scheduler
        self._rungs = to_rungs(manifest)
        self._policy = make(slo_s, len(self._rungs))
        self._rate = ArrivalRate(MEMORY_SLOS * slo_s)

    def admits(self, now: float, arrival_s: float) -> bool:
        """Count an arrival; say whether it would be answered in time at the least budget."""
        self._rate.add(arrival_s, 1)
        least_cap = self._rungs[self._policy.least_rung].cap
        return now - arrival_s + self._answer_s(least_cap) <= self._policy.limit_s

    def steer(self, now: float) -> None:
        """Let the policy decide before a batch is formed."""
        if self._scheduler.num_unread(MODEL) == 0:
            return
        rate = self._rate.at(now)
        demand = [rate * self._costs.sample_s[rung.cap] for rung in self._rungs]
        answer_s = [self._answer_s(rung.cap) for rung in self._rungs]
        choice = self._policy.decide(now, Outlook(self._rungs, answer_s, demand))
        self._scheduler.set_ceiling(MODEL, self._rungs[choice.rung].cap)

    def saw(self, now: float, latency_s: float) -> None:
        self._policy.observe(now, latency_s)

    def _answer_s(self, cap: int) -> float:
        return self._scheduler.work_by_cap_s(MODEL, [cap])[0] + self._costs.alone_s(cap)


class Simulation:
    """One instance of the server with one family; with `slo_s`, under a service level that `make` keeps."""

    def __init__(
        self,
        manifest: Manifest,
        fitted: Fitted,
        policy: Policy,
        *,
        max_pending: int = 4096,
        slo_s: float | None = None,
        make: MakePolicy = Controller,
    ) -> None:
        self._fitted, self._policy, self._max_pending = fitted, policy, max_pending
        self._rng = np.random.default_rng(0)
        max_execution_s = MAX_EXECUTION_S if slo_s is None else min(MAX_EXECUTION_S, slo_s / 4)
        self._costs = Costs(manifest, LatencyModel(manifest), manifest.max_batch_size, max_execution_s)
        self._scheduler: Scheduler[_Request] = Scheduler()
        self._scheduler.add_model(MODEL, self._costs)
        self._steering = None if slo_s is None else Steering(manifest, self._costs, self._scheduler, slo_s, make)
        self._times: list[float] = []
        self._latency_s: list[float] = []
        self._status: list[int] = []
        self._caps: list[int] = []
        self._wanted: Sequence[int] = ()
        self._num_pending = 0
        self._bucket_of = [manifest.bucket_for(length) for length in range(manifest.tape_capacity + 1)]

    def run(self, times_s: Times, wanted: Sequence[int]) -> Simulated:
        """Play all arrivals to the end; request i wants `wanted[i % len(wanted)]` tape tokens."""
        self._play(times_s.tolist(), len(times_s), wanted)
        return Simulated(
            Outcomes(times_s, np.array(self._latency_s), np.array(self._status), np.zeros(len(times_s))), self._caps
        )

    def closed_rate(self, in_flight: int, num_requests: int, wanted: Sequence[int]) -> float:
        """Return the answers a second when so many callers each wait for their answer before they ask again."""
        return num_requests / self._play([0.0] * in_flight, num_requests, wanted)

    def _play(self, times: list[float], num_requests: int, wanted: Sequence[int]) -> float:
        """Play arrivals until all are settled and return when; where fewer are given, each answer brings another."""
        self._latency_s, self._status, self._caps = [0.0] * num_requests, [0] * num_requests, [0] * num_requests
        self._wanted, self._num_pending, self._times = wanted, 0, times
        now, next_number = 0.0, 0
        while next_number < len(times) or self._scheduler.num_waiting:
            end = bisect_right(times, now, next_number)
            for number in range(next_number, end):
                self._arrive(number, times[number], now)
            next_number = end
            for request in self._scheduler.expire(now):
                self._settle(request, now, EXPIRED)
            if self._steering is not None:
                self._steering.steer(now)
            batch = self._scheduler.next_batch(now)
            if batch is not None:
                now = self._execute(batch, now)
            else:
                now = self._next_s(now, times[next_number : next_number + 1])
        return now

    def _next_s(self, now: float, arrivals: list[float]) -> float:
        """Return when something happens by itself, where nothing can run; `now` where all is done."""
        wake_s = self._scheduler.wake_at(now)
        coming = [*arrivals, *([] if wake_s is None else [wake_s])]
        assert coming or not self._scheduler.num_waiting, "Something waits for ever. This is a bug."
        return min(coming, default=now)

    def _arrive(self, number: int, arrival_s: float, now: float) -> None:
        policy = self._policy
        is_late = self._steering is not None and not self._steering.admits(now, arrival_s)
        if is_late or self._num_pending >= self._max_pending:
            self._status[number] = SHED
            return
        cap = policy.cap(arrival_s)
        deadline_s = arrival_s + policy.deadline_s
        due_s = min(deadline_s, arrival_s + PATIENCE_S)
        request = _Request(due_s, number, cap, deadline_s, number=number, arrival_s=arrival_s)
        self._num_pending += 1
        self._scheduler.push(MODEL, Stage.READ if cap > 0 else Stage.EMBED, 0, request, arrival_s)

    def _execute(self, batch: Batch[_Request], now: float) -> float:
        """Run a batch, send its requests on, and return when that is done."""
        seconds = self._fitted.seconds(batch.stage, batch.bucket, len(batch.tickets))
        if self._fitted.scatter > 0:
            seconds *= float(np.exp(self._rng.normal(0.0, self._fitted.scatter)))
        end_s = now + seconds
        self._costs.observe(batch.stage, batch.bucket, len(batch.tickets), seconds)
        if batch.stage is Stage.TRUNK:
            for request in batch.tickets:
                self._settle(request, end_s, OK)
            return end_s
        for request in batch.tickets:
            length = min(self._wanted[request.number % len(self._wanted)], request.cap)
            self._scheduler.push(MODEL, Stage.TRUNK, self._bucket_of[length], request, end_s)
        return end_s

    def _settle(self, request: _Request, now: float, status: int) -> None:
        latency_s = now - request.arrival_s
        self._num_pending -= 1
        self._latency_s[request.number] = latency_s
        self._status[request.number] = status
        self._caps[request.number] = request.cap
        if status == OK:
            self._policy.saw(now, latency_s)
            if self._steering is not None:
                self._steering.saw(now, latency_s)
        if len(self._times) < len(self._status):
            self._times.append(now)
