"""The rate, mean and p99 of requests between two moments, by the server's own metrics."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from loadtest.metrics import parse_metrics, total

TIMEOUT_S = 10.0
DURATION = "adatape_request_duration_seconds"


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals of request durations at one moment; `buckets` count the requests up to each edge.

    Units: seconds; `at_s` since the epoch.
    """

    at_s: float
    count: float
    sum_s: float
    buckets: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened between two moments. The p99 lies in the bucket from `p99_low_s` to `p99_high_s`."""

    rate: float
    mean_s: float
    p99_low_s: float
    p99_high_s: float

    def p99_gap(self, p99_s: float) -> float:
        """Return by how much, as a share, another p99 lies outside the bucket of this one."""
        nearest_s = min(max(p99_s, self.p99_low_s), self.p99_high_s)
        return abs(p99_s - nearest_s) / nearest_s


class Watch:
    """Reads a server's metrics again and again, but seldom.

    A page costs the server some 25 ms of the interpreter: read four times a second, it was the p99 that it showed.
    """

    def __init__(self, url: str, protocol: str, every_s: float) -> None:
        self.samples: list[Sample] = []
        self._every_s = every_s
        self._url = url
        self._client = httpx.Client(timeout=TIMEOUT_S)
        self._protocol = protocol
        self._is_over = threading.Event()

    def between(self, start_s: float, end_s: float) -> Seen:
        """Return what happened between two moments, to the nearest samples.

        Raises: SystemExit if there were too few.
        """
        inside = [sample for sample in self.samples if start_s <= sample.at_s <= end_s]
        if len(inside) < 2 or inside[-1].count == inside[0].count:
            raise SystemExit(
                f"metrics; got {len(inside)} samples in {end_s - start_s:.1f} s; expected requests in them"
            )
        return difference(inside[0], inside[-1])

    def take(self) -> None:
        """Read the metrics once."""
        reply = self._client.get(f"{self._url}/metrics").raise_for_status()
        self.samples.append(parse_sample(reply.text, self._protocol, time.time()))

    def keep_taking(self) -> None:
        """Read the metrics until it is stopped."""
        while not self._is_over.wait(self._every_s):
            self.take()

    def stop(self) -> None:
        self._is_over.set()

    def close(self) -> None:
        self._client.close()


@contextmanager
def watching(url: str, protocol: str, every_s: float) -> Iterator[Watch]:
    """Watch a server's metrics beside whatever else is done."""
    watch = Watch(url, protocol, every_s)
    thread = threading.Thread(target=watch.keep_taking)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()
        watch.close()


def parse_sample(text: str, protocol: str, at_s: float) -> Sample:
    """Add up the durations of one protocol over all models."""
    page = parse_metrics(text)
    mine = {(name, labels): value for (name, labels), value in page.items() if ("protocol", protocol) in labels}
    edges = {dict(labels)["le"] for name, labels in mine if name == f"{DURATION}_bucket"}
    buckets = {float(edge): total(mine, f"{DURATION}_bucket", le=edge) for edge in edges}
    return Sample(at_s, total(mine, f"{DURATION}_count"), total(mine, f"{DURATION}_sum"), buckets)


def difference(first: Sample, last: Sample) -> Seen:
    """Return what happened from one sample to another."""
    count = last.count - first.count
    edges = sorted(last.buckets)
    counts = [last.buckets[edge] - first.buckets.get(edge, 0.0) for edge in edges]
    low_s, high_s = _bucket_of(0.99 * count, edges, counts)
    return Seen(count / (last.at_s - first.at_s), (last.sum_s - first.sum_s) / count, low_s, high_s)


def _bucket_of(rank: float, edges: Sequence[float], counts: Sequence[float]) -> tuple[float, float]:
    """Return the edges of the bucket that holds a rank."""
    index = next(index for index, count in enumerate(counts) if count >= rank)
    return (edges[index - 1] if index else 0.0), edges[index]
