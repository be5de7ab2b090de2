"""`python -m benchmarks.metering`: the cost of metrics as a share of a server's throughput."""

from collections.abc import Sequence
from statistics import median

import httpx

from benchmarks.command import CONCURRENCY, Bench, Options, add_family, parser, run
from benchmarks.cores import cpu_s
from benchmarks.inputs import binary_requests
from benchmarks.report import Aim, Report
from loadtest.process import Server

MAX_COST = 0.02
PAIRS = 10
SECONDS = 4.0
SCRAPES = 40
"""Enough for CPU time, which the kernel gives in hundredths of a second."""
SCRAPE_INTERVAL_S = 15.0
"""monitoring/prometheus/prometheus.yml."""
TIMEOUT_S = 30.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Saturate a server that counts and one that does not, in turn."""
    options = parser("metering", "throughput with metrics, scraped, against none")
    add_family(options)
    options.add_argument("--pairs", type=int, default=PAIRS, help="pairs of blocks (default: %(default)s)")
    run(measure, options, arguments)


def measure(options: Options) -> Report:
    """Run the two servers on one core, only one of them under load; each pair begins with the other one."""
    pairs, seconds = (2, 1.0) if options.quick else (options.pairs, SECONDS)
    bench = Bench(options, num_pictures=CONCURRENCY)
    requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, 1)
    rates: list[tuple[float, float]] = []
    with bench.start_server() as counting, bench.start_server(module="benchmarks.unmetered") as silent:
        for server in (counting, silent):
            bench.rate(server, requests, concurrency=CONCURRENCY, seconds=seconds)
        for pair in range(pairs):
            order = (counting, silent) if pair % 2 == 0 else (silent, counting)
            found = {
                server: bench.rate(server, requests, concurrency=CONCURRENCY, seconds=seconds)[0] for server in order
            }
            rates.append((found[counting], found[silent]))
        scrape_s = _scrape_s(counting)
    return _to_report(bench, rates, scrape_s, seconds)


def _scrape_s(server: Server) -> float:
    """Return the CPU seconds of one scrape, after all the traffic."""
    headers = {"Accept": "application/openmetrics-text", "Connection": "close"}
    before_s = cpu_s(server.pid)
    with httpx.Client(timeout=TIMEOUT_S) as client:
        for _ in range(SCRAPES):
            client.get(f"{server.url}/metrics", headers=headers).raise_for_status()
    return (cpu_s(server.pid) - before_s) / SCRAPES


def _to_report(bench: Bench, rates: list[tuple[float, float]], scrape_s: float, seconds: float) -> Report:
    costs = [1 - counting / silent for counting, silent in rates]
    report = Report("metering", f"Throughput with metrics against none, {bench.model}")
    report.rows = [
        {"pair": pair, "counting_per_s": counting, "silent_per_s": silent, "cost_percent": 100 * cost}
        for pair, ((counting, silent), cost) in enumerate(zip(rates, costs, strict=True), start=1)
    ]
    counting, scraping = median(costs), scrape_s / SCRAPE_INTERVAL_S
    report.aims = [Aim("cost of metrics, share of throughput", counting + scraping, MAX_COST, is_at_least=False)]
    report.notes = [
        bench.describe(),
        (
            f"Two servers on one core, one of them under load at a time, {CONCURRENCY} callers with binary requests of "
            f"one image, blocks of {seconds:g} s; the order within pairs alternates. The silent one runs the same code "
            f"with meters that count nothing. Counting costs {counting:.2%} of throughput (median of pairs); a scrape "
            f"takes {1000 * scrape_s:.3g} ms of CPU time, {scraping:.2%} at one in {SCRAPE_INTERVAL_S:g} s."
        ),
    ]
    report.details["scrape_s"] = scrape_s
    report.details["pairs"] = [{"counting_per_s": counting, "silent_per_s": silent} for counting, silent in rates]
    return report


if __name__ == "__main__":
    main()
