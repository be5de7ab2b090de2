"""Calibrates the simulation's costs with the graphs alone, and with a real server under two loads."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.caller_policies import Fixed
from benchmarks.command import Bench, closed_run, open_run
from benchmarks.direct import BATCHES, Direct
from benchmarks.inputs import binary_requests
from benchmarks.simulation import Fitted, Simulation, to_table
from loadtest.arrivals import Times, poisson
from loadtest.load import Outcomes

SATURATION = 128
CALM, BUSY = 0.3, 0.85
"""The loads that are fitted to: one where batches are small and what each execution costs shows, and one where what
each request costs does. Simulations are held against others."""
HALVINGS, ROUNDS = 10, 3
MAX_REQUEST_S, MAX_EXECUTION_S, MAX_SCATTER = 1e-3, 5e-3, 0.6


@dataclass(frozen=True, slots=True)
class Observed:
    """A load that a real server was put under, and what came of it."""

    times_s: Times
    outcomes: Outcomes


def fit(bench: Bench, direct: Direct, url: str, wanted: list[int], seconds: float) -> tuple[Fitted, float]:
    """Measure every execution alone, then fit what a server adds; return the costs and the server's saturated rate."""
    fitted = Fitted(_tables(bench, direct, seconds / 20))
    requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
    capacity = closed_run(url, requests, concurrency=SATURATION, seconds=seconds).rate

    def observe(load: float) -> Observed:
        times_s = poisson(load * capacity, 2 * seconds, np.random.default_rng(2))
        return Observed(times_s, open_run(url, requests, times_s))

    calm, busy = observe(CALM), observe(BUSY)
    for _ in range(ROUNDS):
        fitted = _fit_to(bench, fitted, wanted, calm, 50, MAX_EXECUTION_S, lambda f, x: replace(f, execution_s=x))
        fitted = _fit_to(bench, fitted, wanted, busy, 50, MAX_REQUEST_S, lambda f, x: replace(f, request_s=x))
        fitted = _fit_to(bench, fitted, wanted, busy, 99, MAX_SCATTER, lambda f, x: replace(f, scatter=x))
    return fitted, capacity


def _tables(bench: Bench, direct: Direct, seconds: float) -> dict[tuple[str, int], list[float]]:
    manifest = bench.manifest
    batches = [batch for batch in BATCHES if batch <= manifest.max_batch_size]
    points: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for batch in batches:
        for bucket in manifest.buckets:
            read_s, trunk_s = direct.stage_s(bucket, bucket, batch, seconds)
            points.setdefault(("trunk", bucket), []).append((batch, trunk_s))
            if bucket in {0, manifest.tape_capacity}:
                points.setdefault(("embed" if bucket == 0 else "read", 0), []).append((batch, read_s))
    return {key: to_table(each, manifest.max_batch_size) for key, each in points.items()}


def _fit_to(
    bench: Bench,
    fitted: Fitted,
    wanted: list[int],
    observed: Observed,
    quantile: float,
    most: float,
    change: Callable[[Fitted, float], Fitted],
) -> Fitted:
    """Find the value, up to `most`, at which the simulation has the quantile of latency that the server had."""
    ask = Fixed("full", bench.manifest.tape_capacity)
    goal_s = observed.outcomes.percentile(quantile)
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        simulated = Simulation(bench.manifest, change(fitted, middle), ask).run(observed.times_s, wanted).outcomes
        low, high = (middle, high) if simulated.percentile(quantile) < goal_s else (low, middle)
    return change(fitted, (low + high) / 2)
