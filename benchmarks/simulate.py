"""`python -m benchmarks.simulate`: the server in fake time, first held against the real one, then a thousand times."""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import numpy as np

from benchmarks.calibration import BUSY, CALM, fit
from benchmarks.caller_policies import Fixed
from benchmarks.command import Bench, Options, add_family, open_run, parser, run
from benchmarks.cores import allowed_cores
from benchmarks.direct import Direct
from benchmarks.inputs import binary_requests
from benchmarks.policies import POLICIES
from benchmarks.policy_load import accuracy_by_cap
from benchmarks.report import Aim, Report, Row
from benchmarks.simulation import Fitted, Simulation
from benchmarks.slo import loads
from loadtest.arrivals import bursty, poisson
from loadtest.load import Outcomes
from server.models.manifest import Manifest

WITHIN = 0.15
NUM_INSTANCES, RATE = 1_000, 1_000_000.0
MAX_SECONDS = 300.0
SLO_S, POLICY_SLO_S = 0.1, 0.05
LOADS = (("Poisson", 0.5), ("Poisson", 0.8), ("bursty", 0.6))
REPEATS = 3
"""Real runs of each load, the same arrivals each time: their median is what the simulation is held against."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Validate the simulation, then simulate a fleet."""
    options = parser("simulate", "a discrete-event simulation, validated against the real server, then at scale")
    add_family(options)
    options.add_argument("--seconds", type=float, default=20.0, help="of each real run (default: %(default)s)")
    options.add_argument("--fleet-seconds", type=float, default=2.0, help="simulated (default: %(default)s)")
    run(measure, options, arguments)


def measure(options: Options) -> Report:
    """Fit, compare with real runs at several loads, then simulate the fleet."""
    seconds, fleet_s = (3.0, 0.05) if options.quick else (options.seconds, options.fleet_seconds)
    bench = Bench(options, num_pictures=512)
    if bench.repository is None:
        raise SystemExit("simulate; got --fake; expected a family with graphs")
    report = Report("simulate", f"Simulation against the real server, and a fleet, {bench.model}")
    images = bench.pictures.pixels_BHWC
    direct = Direct(bench.repository, bench.manifest, images, [], bench.server_core)
    try:
        with bench.start_server() as server:
            wanted = direct.lengths()
            fitted, capacity = fit(bench, direct, server.url, wanted, seconds / 4)
            for kind, load in LOADS:
                _validate(report, bench, server.url, fitted, wanted, kind, load, capacity, seconds)
    finally:
        direct.close()
    _compare_policies(report, bench.manifest, fitted, wanted, capacity, seconds)
    _simulate_fleet(report, bench.manifest, fitted, wanted, fleet_s)
    report.details["fitted"] = {
        "request_s": fitted.request_s,
        "execution_s": fitted.execution_s,
        "scatter": fitted.scatter,
        "capacity": capacity,
    }
    report.notes += [
        bench.describe(),
        (
            f"Fitted: each execution's median alone, {fitted.execution_s * 1e6:.0f} µs an execution from the median "
            f"latency at {CALM:g}x, {fitted.request_s * 1e6:.0f} µs a request from that at {BUSY:g}x of "
            f"{capacity:.0f} images/s (saturated), and executions that scatter by {fitted.scatter:.0%} from the p99 "
            "there; none of these arrivals is used again. Real and simulated server get the same arrivals and "
            f"pictures; of {REPEATS} real runs of each load the median counts, and the lowest and highest p99 are "
            "shown. The simulator drives the server's own scheduler; it leaves out the network, garbage collection and "
            "other programs."
        ),
        (
            f"Policies keep {POLICY_SLO_S * 1e3:g} ms: the server's controller and its rivals in its place, under the "
            "loads of benchmarks.slo, of the same capacity; accuracy is the quality curve's, of answers in time."
        ),
        (
            f"Fleet: {NUM_INSTANCES} such instances, {RATE:,.0f} requests/s in all, split among them at random, which "
            f"makes each instance's arrivals Poisson and independent, so each is simulated alone. Caps are set so that "
            f"an instance can hold its {RATE / NUM_INSTANCES:.0f} requests/s; {fleet_s:g} s are simulated."
        ),
    ]
    return report


def _validate(
    report: Report,
    bench: Bench,
    url: str,
    fitted: Fitted,
    wanted: list[int],
    kind: str,
    load: float,
    capacity: float,
    seconds: float,
) -> None:
    make = bursty if kind == "bursty" else poisson
    times = make(load * capacity, seconds, np.random.default_rng(1))
    full = bench.manifest.tape_capacity
    simulated = Simulation(bench.manifest, fitted, Fixed("full", full)).run(times, wanted).outcomes
    requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
    runs = sorted((open_run(url, requests, times) for _ in range(REPEATS)), key=lambda run: run.percentile(99))
    actual = runs[REPEATS // 2]
    spread = {"least p99_ms": runs[0].percentile(99) * 1e3, "most p99_ms": runs[-1].percentile(99) * 1e3}
    report.rows.append({"load": f"{kind} {load:g}x", "side": "real", **_figures(actual), **spread})
    report.rows.append({"load": f"{kind} {load:g}x", "side": "simulated", **_figures(simulated)})
    p99 = simulated.percentile(99) / actual.percentile(99)
    attainment = simulated.attainment(SLO_S) / max(median(run.attainment(SLO_S) for run in runs), 1e-9)
    name = f"{kind} {load:g}x, simulated ÷ real"
    report.aims += [
        Aim(f"p99, {name}, distance from 1", abs(p99 - 1), WITHIN, is_at_least=False),
        Aim(f"attainment of {SLO_S * 1e3:g} ms, {name}, distance from 1", abs(attainment - 1), WITHIN, False),
    ]


def _compare_policies(
    report: Report, manifest: Manifest, fitted: Fitted, wanted: list[int], capacity: float, seconds: float
) -> None:
    """Play the loads of `benchmarks.slo` against every policy of the server, in fake time."""
    curve, ask = np.array(accuracy_by_cap(manifest)), Fixed("all", manifest.tape_capacity)
    for load, times in loads(capacity, seconds, None).items():
        for name, make in POLICIES.items():
            simulated = Simulation(manifest, fitted, ask, slo_s=POLICY_SLO_S, make=make).run(times, wanted)
            outcomes = simulated.outcomes
            is_good = outcomes.is_ok & (outcomes.latency_s <= POLICY_SLO_S)
            accuracy = float(curve[np.array(simulated.caps)[is_good]].mean()) if is_good.any() else 0.0
            figures = {**_figures(outcomes), "attainment": outcomes.attainment(POLICY_SLO_S), "accuracy": accuracy}
            report.rows.append({"load": f"{load}, policy {name}", "side": "simulated", **figures})


def _figures(outcomes: Outcomes) -> Row:
    quantiles = {f"p{q}_ms": outcomes.percentile(q) * 1e3 for q in (50, 95, 99)}
    return {"n": len(outcomes.status), **quantiles, "attainment": outcomes.attainment(SLO_S)}


# --- The fleet -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fleet:
    """One share of the instances; everything a process needs to simulate it."""

    manifest: Manifest
    fitted: Fitted
    wanted: list[int]
    cap: int
    rate: float
    seconds: float
    seeds: range


def _simulate_fleet(report: Report, manifest: Manifest, fitted: Fitted, wanted: list[int], seconds: float) -> None:
    each = RATE / NUM_INSTANCES
    cap = _cap_for(manifest, fitted, wanted, each)
    processes = len(allowed_cores())
    os.sched_setaffinity(0, allowed_cores())
    shares = [range(first, NUM_INSTANCES, processes) for first in range(processes)]
    fleets = [Fleet(manifest, fitted, wanted, cap, each, seconds, seeds) for seeds in shares]
    start_s = time.perf_counter()
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        latency_s = np.concatenate(list(pool.map(_simulate_share, fleets)))
    spent_s = time.perf_counter() - start_s
    quantiles = {f"p{q}_ms": float(np.percentile(latency_s, q)) * 1e3 for q in (50, 95, 99)}
    report.rows.append(
        {
            "load": f"{NUM_INSTANCES} instances, cap {cap}",
            "side": "simulated",
            "n": len(latency_s),
            **quantiles,
            "attainment": float((latency_s <= SLO_S).mean()),
            "wall s": spent_s,
        }
    )
    report.aims.append(
        Aim(
            f"{NUM_INSTANCES} instances at {RATE:,.0f} requests/s, {seconds:g} s of it, wall s",
            spent_s,
            MAX_SECONDS,
            False,
        )
    )


def _cap_for(manifest: Manifest, fitted: Fitted, wanted: list[int], rate: float) -> int:
    """Return the largest cap under which one instance keeps a tenth in reserve at this rate; 0 if none does."""

    def holds(cap: int) -> bool:
        simulation = Simulation(manifest, fitted, Fixed("fleet", cap))
        return simulation.closed_rate(128, 2048, wanted) >= 1.1 * rate

    return next((cap for cap in range(manifest.tape_capacity, 0, -1) if holds(cap)), 0)


def _simulate_share(fleet: Fleet) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate(list(_latencies(fleet)))


def _latencies(fleet: Fleet) -> Iterable[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    for seed in fleet.seeds:
        rng = np.random.default_rng(seed)
        times = poisson(fleet.rate, fleet.seconds, rng)
        shuffled = rng.permutation(fleet.wanted).tolist()
        simulation = Simulation(fleet.manifest, fleet.fitted, Fixed("fleet", fleet.cap))
        yield simulation.run(times, shuffled).outcomes.latency_s


if __name__ == "__main__":
    main()
