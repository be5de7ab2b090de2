"""`python -m benchmarks.slo`: which policies meet a latency objective under overload, at which accuracy."""

from collections.abc import Sequence
from functools import partial
from math import nan
from pathlib import Path

import numpy as np

from benchmarks.caller_policies import Aimd, Fixed
from benchmarks.command import CONCURRENCY, Bench, Options, add_family, closed_run, parser, run
from benchmarks.inputs import binary_requests
from benchmarks.policy_load import Caller, PolicyResult, run_policy
from benchmarks.report import Aim, Report
from benchmarks.slo_plot import Point, draw
from loadtest.arrivals import Times, bursty, poisson, read_trace, scale, steps
from loadtest.process import ROOT

MIN_ATTAINMENT, MIN_GOODPUT_RATIO, MAX_ACCURACY_GAP = 0.99, 1.7, 0.005
CALM = 0.5
CALM_SHARE = 0.25
WARM_S = 1.0
"""Of calm before a server's first load, not counted: connections are opened and predictions corrected."""
STEPS = (1.0, 2.0, 3.0)
BURSTY_MEAN = 1.0
FULL, ZERO, OURS = "full tape", "zero tape", "controller"
AIMD, SLACK = "AIMD on the cap", "slack fit (deadline)"
PICTURE = ROOT / "docs" / "images" / "slo.svg"
Results = dict[str, dict[str, PolicyResult]]
"""What each policy did, by load."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Play every load against every policy."""
    options = parser("slo", "SLO attainment, goodput and served accuracy under bursts and steps, all policies")
    add_family(options)
    options.add_argument("--slo-ms", type=float, default=50.0, help="the promise, for 99 %% (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=10.0, help="of each load (default: %(default)s)")
    options.add_argument("--arrivals", type=Path, help="CSV with a column arrival_s; default: a bursty generator")
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the SVG goes (default: docs/images)")
    run(measure, options, arguments)


def callers(bench: Bench, slo_s: float) -> list[Caller]:
    """Return every policy: who caps what, and how the server is started for it."""
    full, slo_ms = bench.manifest.tape_capacity, slo_s * 1e3
    fixed = sorted({1, *bench.manifest.buckets} - {0, full})
    return [
        Caller(bench, FULL, partial(Fixed, FULL, full)),
        Caller(bench, ZERO, partial(Fixed, ZERO, 0)),
        *(Caller(bench, f"fixed cap {cap}", partial(Fixed, "fixed", cap)) for cap in fixed),
        Caller(bench, AIMD, partial(Aimd, AIMD, slo_s, full)),
        Caller(bench, SLACK, partial(Fixed, SLACK, full), parameters={"deadline_ms": slo_ms}),
        Caller(bench, OURS, partial(Fixed, OURS, full), server=("--slo-ms", f"{slo_ms:g}")),
    ]


def loads(capacity: float, seconds: float, trace: Path | None) -> dict[str, Times]:
    """Return the arrivals of each load: a step from calm to a multiple of full-tape capacity, and bursts."""
    rng = np.random.default_rng(7)
    num_steps = round(1 / CALM_SHARE)
    shapes = {
        f"step to {load:g}x": steps([CALM * capacity] + [load * capacity] * (num_steps - 1), seconds / num_steps, rng)
        for load in STEPS
    }
    rate = BURSTY_MEAN * capacity
    shapes["bursty"] = bursty(rate, seconds, rng) if trace is None else scale(read_trace(trace), rate, seconds)
    return shapes


def measure(options: Options) -> Report:
    """Measure capacity, then play every load against every policy."""
    bench = Bench(options, num_pictures=256)
    slo_s, seconds = options.slo_ms / 1e3, 1.0 if options.quick else options.seconds
    with bench.start_server() as server:
        requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
        capacity = closed_run(server.url, requests, concurrency=CONCURRENCY, seconds=min(seconds, 5.0)).rate
    shapes = loads(capacity, seconds, options.arrivals)
    warm_up = poisson(CALM * capacity, WARM_S, np.random.default_rng(1))
    policies = callers(bench, slo_s)
    if options.quick:
        policies = [policy for policy in policies if policy.name in {FULL, ZERO, OURS}]
    results: Results = {load: {} for load in shapes}
    for policy in policies:
        with bench.start_server(*policy.server) as server:
            run_policy(policy, server.url, warm_up, slo_s)
            for load, times in shapes.items():
                results[load][policy.name] = run_policy(policy, server.url, times, slo_s)
    report = Report("slo", f"Keeping p99 under {options.slo_ms:g} ms, {bench.model}")
    report.rows = [result.row(load, name) for load, each in results.items() for name, result in each.items()]
    report.aims = _aims(results)
    report.notes += _notes(bench, options, capacity)
    _picture(options, results, capacity)
    return report


def best_fixed(results: dict[str, PolicyResult]) -> PolicyResult:
    """Return the best fixed cap in hindsight: the most accurate that kept the promise, else the one nearest to it."""
    fixed = [each for name, each in results.items() if name in {FULL, ZERO} or name.startswith("fixed cap")]
    kept = [each for each in fixed if each.attainment >= MIN_ATTAINMENT]
    if kept:
        return max(kept, key=lambda each: each.accuracy)
    return max(fixed, key=lambda each: each.attainment)


def _aims(results: Results) -> list[Aim]:
    holdable = [each for each in results.values() if each[ZERO].attainment >= MIN_ATTAINMENT]
    worst = min((each[OURS].attainment for each in holdable), default=nan)
    twice = results["step to 2x"]
    gap = max((best_fixed(each).accuracy - each[OURS].accuracy for each in holdable), default=nan)
    return [
        Aim(f"least attainment over {len(holdable)} loads that zero tape can hold", worst, MIN_ATTAINMENT),
        Aim("loads that zero tape can hold", len(holdable), 1),
        Aim("goodput ÷ full tape, step to 2x", twice[OURS].goodput / max(twice[FULL].goodput, 1e-9), MIN_GOODPUT_RATIO),
        Aim("most accuracy lost to the best fixed cap in hindsight", gap, MAX_ACCURACY_GAP, is_at_least=False),
    ]


def _notes(bench: Bench, options: Options, capacity: float) -> list[str]:
    bursts = "a built-in bursty generator" if options.arrivals is None else f"the arrivals of {options.arrivals.name}"
    return [
        bench.describe(),
        (
            f"Full-tape capacity: {capacity:.0f} images/s, saturated. Each step runs {CALM:g}x of it for a quarter of "
            f"the time, then the load named; bursts are {bursts} at a mean of {BURSTY_MEAN:g}x. Open model, latency "
            "from the intended send time; what is shed or expires counts against attainment; the lag column is how "
            "late the generator itself was, which is part of latency. A second of calm before the first load is not "
            "counted. Served accuracy is the manifest's quality curve at the cap of each answer in time, as its "
            "receipt says it."
        ),
        (
            "AIMD runs in the caller (windows of 100 ms, halving above 90 % of the promise). Slack fit is the "
            "server's own deadline rule, which picks the tape from the slack left when a batch is formed, as "
            "SuperServe's SlackFit picks a subnetwork. The best fixed cap is chosen in hindsight for each load."
        ),
    ]


def _picture(options: Options, results: Results, capacity: float) -> None:
    """Draw fixed tape against the controller over the steps."""
    points = [Point(load, results[f"step to {load:g}x"][name], name) for load in STEPS for name in (FULL, OURS)]
    if not options.quick:
        draw(points, capacity, options.slo_ms, options.picture)


if __name__ == "__main__":
    main()
