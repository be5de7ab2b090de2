"""`python -m benchmarks.latency`: the time that HTTP and the engine add to one image on an idle server."""

from collections.abc import Sequence
from statistics import median

from benchmarks.command import Bench, Options, add_family, closed_run, parser, run
from benchmarks.direct import Direct
from benchmarks.inputs import binary_requests
from benchmarks.ratios import percentiles_ms
from benchmarks.report import Aim, Report

MAX_ADDED_P50_MS, MAX_ADDED_P99_MS = 0.5, 2.0
BLOCKS = 8
Percentiles = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure direct calls and single requests in turn."""
    options = parser("latency", "added p50 and p99 over direct calls at concurrency 1")
    add_family(options)
    options.add_argument("--count", type=int, default=400, help="images in each block (default: %(default)s)")
    run(measure, options, arguments)


def measure(options: Options) -> Report:
    """Ask one image at a time: directly, then through HTTP, and so on in blocks."""
    blocks, count = (1, 50) if options.quick else (BLOCKS, options.count)
    bench = Bench(options, num_pictures=count)
    if bench.repository is None:
        raise SystemExit("latency; got --fake; expected a family with graphs to call directly")
    images = bench.pictures.pixels_BHWC
    requests = binary_requests(bench.model, images, 1)
    direct = Direct(bench.repository, bench.manifest, images, [], bench.server_core)
    pairs: list[tuple[list[float], list[float]]] = []
    try:
        with bench.start_server() as server:
            direct.solo_s(count)
            for _ in range(blocks):
                alone_s = direct.solo_s(count)
                pairs.append((alone_s, _solo_http_s(server.url, requests, sum(alone_s))))
    finally:
        direct.close()
    return _to_report(bench, pairs)


def _solo_http_s(url: str, requests: list[bytes], seconds: float) -> list[float]:
    return closed_run(url, requests, concurrency=1, seconds=seconds).warm_latencies_s


def _to_report(bench: Bench, pairs: list[tuple[list[float], list[float]]]) -> Report:
    report = Report("latency", f"Latency at concurrency 1: HTTP against direct calls, {bench.model}")
    blocks = [(percentiles_ms(alone), percentiles_ms(http)) for alone, http in pairs]
    report.rows = [
        {"side": "direct", **percentiles_ms([each for alone, _ in pairs for each in alone])},
        {"side": "HTTP, binary", **percentiles_ms([each for _, http in pairs for each in http])},
    ]
    added = {name: median(http[name] - alone[name] for alone, http in blocks) for name in ("p50_ms", "p99_ms")}
    report.rows.append({"side": "added, median of blocks", "n": len(blocks), **added})
    report.aims = [
        Aim("added p50 at concurrency 1, ms", added["p50_ms"], MAX_ADDED_P50_MS, is_at_least=False),
        Aim("added p99 at concurrency 1, ms", added["p99_ms"], MAX_ADDED_P99_MS, is_at_least=False),
    ]
    report.notes = [
        bench.describe(),
        (
            "Each block asks the same images one by one, first of the graphs in a process on the server's "
            "core, then of "
            "the server; the figure is the median over blocks of the difference of percentiles."
        ),
    ]
    report.details["blocks"] = [{"direct": alone, "http": http} for alone, http in blocks]
    return report


if __name__ == "__main__":
    main()
