"""Two ways to load a server: open (requests are sent at given times) and closed (each caller waits for its answer).

Latency in the open model runs from the time at which the request was *meant* to be sent, so a server or generator
that falls behind cannot hide it.
"""

import asyncio
import resource
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import Times
from loadtest.lean_http import Client, Reply

WARM_CONNECTIONS = 64
_OK = 200

OnReply = Callable[[int, Reply, float], None]
"""Takes the number of a request, its reply and its latency in seconds."""


def _ignore(number: int, reply: Reply, latency_s: float) -> None:
    del number, reply, latency_s


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of each request, in order.

    Units: seconds; `status` is the HTTP status, 0 where the connection broke. `sent_s` is when each was meant to be
    sent; `lag_s` is how much later the generator came to it, which is part of the latency.
    """

    sent_s: Times
    latency_s: Times
    status: NDArray[np.int64]
    lag_s: Times

    @property
    def is_ok(self) -> NDArray[np.bool_]:
        answered: NDArray[np.bool_] = self.status == _OK
        return answered

    def attainment(self, slo_s: float) -> float:
        """Return the share of all requests that were answered within the SLO."""
        return float((self.is_ok & (self.latency_s <= slo_s)).mean())

    def goodput(self, slo_s: float, duration_s: float) -> float:
        """Return the requests answered within the SLO, a second."""
        return float((self.is_ok & (self.latency_s <= slo_s)).sum() / duration_s)

    def percentile(self, q: float) -> float:
        """Return a percentile of the latency of answered requests; infinity if there are none."""
        answered = self.latency_s[self.is_ok]
        return float(np.percentile(answered, q)) if len(answered) else float("inf")


async def run_open(
    client: Client, choose: Callable[[int], bytes], times_s: Times, on_reply: OnReply = _ignore
) -> Outcomes:
    """Send request `choose(i)` at `times_s[i]`, whatever has become of the others."""
    await client.open(WARM_CONNECTIONS)
    loop = asyncio.get_running_loop()
    latency_s, status, lag_s = np.zeros(len(times_s)), np.zeros(len(times_s), np.int64), np.zeros(len(times_s))
    start_s = loop.time()

    async def send(number: int, intended_s: float) -> None:
        lag_s[number] = loop.time() - intended_s
        reply = await client.send(choose(number))
        latency_s[number], status[number] = loop.time() - intended_s, reply.status
        on_reply(number, reply, float(latency_s[number]))

    async with asyncio.TaskGroup() as group:
        for number, offset_s in enumerate(times_s.tolist()):
            wait_s = start_s + offset_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(send(number, start_s + offset_s))
    return Outcomes(times_s, latency_s, status, lag_s)


@dataclass(slots=True)
class Closed:
    """What callers got in a closed run.

    Units: seconds, from the start; both lists are in the order of answers. `num_failed` counts what was not answered.
    """

    warm_s: float
    done_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    num_failed: int = 0
    num_answered: int = 0
    """All of them, those that came after the end included."""

    @property
    def rate(self) -> float:
        """Return the answers a second after warm-up, from one answer to another.

        Batches answer in bursts: counting over a fixed window would add or drop most of a burst at either end.
        """
        first = bisect_right(self.done_s, self.warm_s) - 1
        if first < 0 or first >= len(self.done_s) - 1:
            return 0.0
        return (len(self.done_s) - 1 - first) / (self.done_s[-1] - self.done_s[first])

    @property
    def warm_latencies_s(self) -> list[float]:
        """Return the latencies of requests answered after warm-up."""
        return self.latencies_s[bisect_right(self.done_s, self.warm_s) :]


async def run_closed(
    client: Client,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    duration_s: float,
    warm_s: float = 0.5,
    on_reply: OnReply = _ignore,
) -> Closed:
    """Keep `concurrency` callers busy with the requests, in turn, through a warm-up and then for `duration_s`."""
    await client.open(concurrency)
    result = Closed(warm_s)
    clock = time.perf_counter
    start_s = clock()
    end_s = start_s + warm_s + duration_s
    numbers = count()

    async def call() -> None:
        while (sent_s := clock()) < end_s:
            number = next(numbers) % len(requests)
            reply = await client.send(requests[number])
            done_s = clock()
            result.num_answered += reply.status == _OK
            result.num_failed += reply.status != _OK
            if reply.status == _OK and done_s <= end_s:
                result.done_s.append(done_s - start_s)
                result.latencies_s.append(done_s - sent_s)
            on_reply(number, reply, done_s - sent_s)

    await asyncio.gather(*(call() for _ in range(concurrency)))
    return result


def raise_file_limit() -> None:
    """Let an overload hold as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
