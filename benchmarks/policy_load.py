"""Load on a real server whose requests ask for the caps of a policy, and its results."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.caller_policies import Aimd, Fixed
from benchmarks.command import Bench, in_loop
from benchmarks.inputs import binary_requests
from benchmarks.report import Row
from loadtest.arrivals import Times
from loadtest.lean_http import Client, Reply
from loadtest.load import Outcomes, raise_file_limit, run_open
from server.models.manifest import Manifest

_CAP = re.compile(rb'"cap":(\d+)')
_TAPE = re.compile(rb'"tape_length":(\d+)')
_OK = 200


@dataclass(slots=True)
class Caller:
    """A policy's requests, and the arguments that the server is started with for it."""

    bench: Bench
    name: str
    make: Callable[[], Fixed | Aimd]
    server: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    _requests: dict[int, list[bytes]] = field(default_factory=dict)

    def request(self, number: int, cap: int) -> bytes:
        """Return a picture as a call with a cap; the largest cap is asked for by asking nothing."""
        if cap not in self._requests:
            bench = self.bench
            capped = {} if cap == bench.manifest.tape_capacity else {"max_tape": cap}
            parameters = {**self.parameters, **capped}
            self._requests[cap] = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1, parameters)
        requests = self._requests[cap]
        return requests[number % len(requests)]


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The results of one policy under one load."""

    outcomes: Outcomes
    attainment: float
    goodput: float
    accuracy: float
    mean_tape: float
    mean_cap: float

    @property
    def p99_ms(self) -> float:
        return self.outcomes.percentile(99) * 1e3

    def row(self, load: str, name: str) -> Row:
        statuses = self.outcomes.status
        return {
            "load": load,
            "policy": name,
            "n": len(statuses),
            "attainment": self.attainment,
            "goodput/s": self.goodput,
            "accuracy": self.accuracy,
            "mean tape": self.mean_tape,
            "mean cap": self.mean_cap,
            "p50_ms": self.outcomes.percentile(50) * 1e3,
            "p95_ms": self.outcomes.percentile(95) * 1e3,
            "p99_ms": self.p99_ms,
            "refused": float((statuses != _OK).mean()),
            "lag p99_ms": float(np.percentile(self.outcomes.lag_s, 99)) * 1e3,
        }


def run_policy(caller: Caller, url: str, times: Times, slo_s: float) -> PolicyResult:
    """Send a load to a server with the caps of a policy; return the results."""
    policy = caller.make()
    caps, tapes = np.full(len(times), -1), np.zeros(len(times))

    def choose(number: int) -> bytes:
        return caller.request(number, policy.cap(float(times[number])))

    def on_reply(number: int, reply: Reply, latency_s: float) -> None:
        policy.saw(0.0, latency_s)
        cap, tape = _CAP.search(reply.body), _TAPE.search(reply.body)
        if reply.status == _OK and cap and tape:
            caps[number], tapes[number] = int(cap.group(1)), int(tape.group(1))

    async def run() -> Outcomes:
        client = Client(url)
        try:
            return await run_open(client, choose, times, on_reply)
        finally:
            await client.close()

    raise_file_limit()
    for cap in range(caller.bench.manifest.tape_capacity + 1):
        caller.request(0, cap)
    return _sum_up(in_loop(run()), caps, tapes, caller.bench.manifest, slo_s)


def accuracy_by_cap(manifest: Manifest) -> list[float]:
    """Return the quality curve at every cap, along straight lines between its points."""
    points = sorted((point.cap, point.accuracy) for point in manifest.quality.points)
    caps, accuracies = zip(*points, strict=True)
    return [float(each) for each in np.interp(range(manifest.tape_capacity + 1), caps, accuracies)]


def _sum_up(outcomes: Outcomes, caps: Any, tapes: Any, manifest: Manifest, slo_s: float) -> PolicyResult:
    is_good = (caps >= 0) & (outcomes.latency_s <= slo_s)
    curve = np.array(accuracy_by_cap(manifest))
    is_any = bool(is_good.any())
    return PolicyResult(
        outcomes=outcomes,
        attainment=outcomes.attainment(slo_s),
        goodput=outcomes.goodput(slo_s, float(outcomes.sent_s[-1])),
        accuracy=float(curve[caps[is_good]].mean()) if is_any else 0.0,
        mean_tape=float(tapes[is_good].mean()) if is_any else 0.0,
        mean_cap=float(caps[is_good].mean()) if is_any else 0.0,
    )
