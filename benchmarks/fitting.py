"""From measurements of the graphs and of an idle and a saturated server to the simulation's costs."""

from dataclasses import replace
from statistics import median

from benchmarks.asking import Fixed
from benchmarks.command import Bench, closed_run
from benchmarks.direct import BATCHES, Direct
from benchmarks.inputs import binary_requests
from benchmarks.simulation import Fitted, Simulation, to_table

SATURATION, FEW = 128, 8
"""Callers that fill batches, and callers that leave them small, where what each execution costs shows."""
HALVINGS, ROUNDS = 12, 3
NUM_SATURATED = 2048


def fit(bench: Bench, direct: Direct, url: str, wanted: list[int], seconds: float) -> Fitted:
    """Measure every execution alone, then let an idle and a saturated server tell what they add."""
    fitted = Fitted(_tables(bench, direct, seconds / 20))
    requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
    alone = closed_run(url, requests, concurrency=1, seconds=seconds)
    few = closed_run(url, requests, concurrency=FEW, seconds=seconds)
    full = closed_run(url, requests, concurrency=SATURATION, seconds=seconds)
    for _ in range(ROUNDS):
        fitted = _fit_to(bench, fitted, wanted, "request_s", full.rate, SATURATION)
        fitted = _fit_to(bench, fitted, wanted, "execution_s", few.rate, FEW)
    graphs_s = fitted.tables["read", 0][0] + median(_trunk_s(bench, fitted, length) for length in wanted)
    own_s = graphs_s + fitted.request_s + 2 * fitted.execution_s
    added_s = max(0.0, median(alone.warm_latencies_s) - own_s)
    return replace(fitted, fixed_s=added_s)


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


def _trunk_s(bench: Bench, fitted: Fitted, length: int) -> float:
    return fitted.tables["trunk", bench.manifest.bucket_for(length)][0]


def _fit_to(bench: Bench, fitted: Fitted, wanted: list[int], field: str, rate: float, in_flight: int) -> Fitted:
    """Find what one of the costs beside the graphs must be for the simulated server to reach the measured rate."""
    low, high = 0.0, in_flight / rate
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        simulated = saturated_rate(bench, replace(fitted, **{field: middle}), wanted, in_flight=in_flight)
        low, high = (middle, high) if simulated > rate else (low, middle)
    return replace(fitted, **{field: (low + high) / 2})


def saturated_rate(
    bench: Bench, fitted: Fitted, wanted: list[int], cap: int | None = None, *, in_flight: int = SATURATION
) -> float:
    """Return the answers a second of a simulated server with so many callers, each of whom asks again at once."""
    cap = bench.manifest.tape_capacity if cap is None else cap
    return Simulation(bench.manifest, fitted, Fixed("saturated", cap)).closed_rate(in_flight, NUM_SATURATED, wanted)
