"""`python -m benchmarks.reload`: how much later answers come while a new version is loaded and takes over."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.command import CONCURRENCY, Bench, Options, add_family, in_loop, parser, run
from benchmarks.inputs import binary_requests
from benchmarks.ratios import Paired
from benchmarks.report import Aim, Report
from loadtest.arrivals import poisson
from loadtest.lean_http import Client
from loadtest.load import Outcomes, run_open
from loadtest.process import Server
from loadtest.repository import RepositoryCopy

MAX_RATIO = 1.10
ROUNDS = 8
SECONDS = 10.0
RELOAD_AT_S = 2.0
LOAD = 0.5
"""The share of what it can bear that the server is asked for."""
CAPACITY_S = 4.0
SETTLE_S = 1.5
"""What is seen out has been let go of by then."""
TIMEOUT_S = 60.0
SEED = 5


@dataclass(frozen=True, slots=True)
class Window:
    """What callers saw for a while; `load_s` is how long the load call took in it, 0 without one."""

    outcomes: Outcomes
    load_s: float

    @property
    def p99_ms(self) -> float:
        return self.outcomes.percentile(99) * 1e3

    def during_ms(self, q: float) -> float:
        """Return a percentile of the requests that came during the load call."""
        sent_s = self.outcomes.sent_s
        is_during = (sent_s >= RELOAD_AT_S) & (sent_s < RELOAD_AT_S + self.load_s)
        return float(np.percentile(self.outcomes.latency_s[is_during], q)) * 1e3


class Reloads:
    """A server under steady traffic, of which new versions are published."""

    def __init__(self, bench: Bench, server: Server, repository: RepositoryCopy, seconds: float) -> None:
        self._bench, self._server, self._repository, self._seconds = bench, server, repository, seconds
        self._requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
        self._rng = np.random.default_rng(SEED)
        self._version = 1
        capacity, _ = bench.rate(server, self._requests, concurrency=CONCURRENCY, seconds=CAPACITY_S)
        self.rate = LOAD * capacity

    def window(self, *, is_reloading: bool) -> Window:
        """Send traffic for some seconds, with a reload in it or without.

        Raises: SystemExit if a request was not answered.
        """
        times_s = poisson(self.rate, self._seconds, self._rng)

        async def main() -> Window:
            client = Client(self._server.url)
            reloading = asyncio.create_task(self._reload()) if is_reloading else None
            outcomes = await run_open(client, lambda number: self._requests[number % len(self._requests)], times_s)
            load_s = 0.0 if reloading is None else await reloading
            await client.close()
            return Window(outcomes, load_s)

        window = in_loop(main())
        if not window.outcomes.is_ok.all():
            raise SystemExit(f"server; got {(~window.outcomes.is_ok).sum()} requests not answered; expected none")
        time.sleep(SETTLE_S)
        return window

    async def _reload(self) -> float:
        await asyncio.sleep(RELOAD_AT_S)
        self._version += 1
        self._repository.publish(self._version)
        if self._version > 3:
            self._repository.remove(self._version - 2)
        return await asyncio.to_thread(self._load)

    def _load(self) -> float:
        path = f"/v2/repository/models/{self._repository.family}/load"
        started_s = time.monotonic()
        self._server.post(path, timeout_s=TIMEOUT_S).raise_for_status()
        return time.monotonic() - started_s


def main(arguments: Sequence[str] | None = None) -> None:
    """Reload under steady traffic, in every other window."""
    options = parser("reload", "p99 of steady traffic with a reload against without")
    add_family(options)
    options.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of windows (default: %(default)s)")
    run(measure, options, arguments)


def measure(options: Options) -> Report:
    """Take windows without and with a reload in turn, on one server."""
    rounds, seconds = (2, 4.0) if options.quick else (options.rounds, SECONDS)
    bench = Bench(options, num_pictures=CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder:
        repository = RepositoryCopy(options.repository, options.family, Path(folder))
        bench.repository = repository.root
        with bench.start_server() as server:
            reloads = Reloads(bench, server, repository, seconds)
            windows = [(reloads.window(is_reloading=False), reloads.window(is_reloading=True)) for _ in range(rounds)]
    return _to_report(bench, reloads.rate, seconds, windows)


def _to_report(bench: Bench, rate: float, seconds: float, windows: list[tuple[Window, Window]]) -> Report:
    paired = Paired([calm.p99_ms for calm, _ in windows], [busy.p99_ms for _, busy in windows])
    report = Report("reload", f"p99 with a reload against without, {bench.model}")
    report.rows = [
        {
            "round": number,
            "calm_p99_ms": calm.p99_ms,
            "reload_p99_ms": busy.p99_ms,
            "ratio": ratio,
            "load_s": busy.load_s,
            "during_p50_ms": busy.during_ms(50),
            "during_p99_ms": busy.during_ms(99),
            "n": len(busy.outcomes.status),
        }
        for number, ((calm, busy), ratio) in enumerate(zip(windows, paired.ratios, strict=True), start=1)
    ]
    low, high = paired.spread
    report.aims = [Aim("p99 with a reload over p99 without, median", paired.ratio, MAX_RATIO, is_at_least=False)]
    report.notes = [
        bench.describe(),
        (
            f"Windows of {seconds:g} s, with a reload {RELOAD_AT_S:g} s after the beginning and without, in turn; each "
            f"ratio is over the mean of the calm windows around it. Poisson arrivals of one image, {rate:.0f} a "
            f"second, {LOAD:.0%} of what the server bears; latency from when a request was meant to be sent. No "
            f"request failed. The load call takes {median(busy.load_s for _, busy in windows):.2f} s (median); "
            f"n = {len(windows)} pairs, ratios from {low:.2f} to {high:.2f}. `during` are the requests that came in "
            "that time alone."
        ),
    ]
    return report


if __name__ == "__main__":
    main()
