"""`python -m benchmarks.efficiency`: the throughput through HTTP as a share of the graphs' own."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from benchmarks.command import CONCURRENCY, Bench, Options, add_family, parser, run
from benchmarks.direct import Direct
from benchmarks.inputs import binary_requests, jpeg_request
from benchmarks.ratios import alternate, percentiles_ms
from benchmarks.report import Aim, Report
from loadtest.photos import to_jpeg
from loadtest.process import Server

AIMS = {
    "adatape_cifar10": {"binary, single images": 0.93, "binary, batches of 8": 0.97, "JPEG, single images": 0.88},
    "adatape_photo": {"binary, single images": 0.96},
}
CLIENT_BATCH = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way to send images: its requests, how many images each holds, and whether they are JPEG."""

    name: str
    requests: list[bytes]
    batch: int = 1
    is_jpeg: bool = False

    @property
    def concurrency(self) -> int:
        return max(2, CONCURRENCY // self.batch)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each way of sending images against the direct calls."""
    options = parser("efficiency", "images/s through HTTP ÷ images/s of the same graphs called directly")
    add_family(options)
    options.add_argument("--rounds", type=int, default=5, help="A B pairs for each way (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)")
    run(measure, options, arguments)


def measure(options: Options) -> Report:
    """Run direct calls and the server in turn, for each way of sending images."""
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    bench = Bench(options, num_pictures=1024)
    if bench.repository is None:
        raise SystemExit("efficiency; got --fake; expected a family with graphs to call directly")
    jpegs = [to_jpeg(pixels) for pixels in bench.pictures.pixels_BHWC]
    direct = Direct(
        bench.repository,
        bench.manifest,
        bench.pictures.pixels_BHWC,
        jpegs,
        bench.server_core,
        is_cpu_time=bench.is_cpu_time,
    )
    report = Report("efficiency", f"Efficiency: HTTP against direct calls, {bench.model}")
    try:
        best = direct.best_batch(seconds / 4, max_batch_size=bench.manifest.max_batch_size)
        with bench.start_server() as server:
            for way in _ways(bench, jpegs):
                _compare(report, bench, server, direct, way, best, rounds, seconds)
    finally:
        direct.close()
    report.notes += [
        bench.describe(),
        (
            f"Direct calls: one process, one thread, the server's core, batches of {best} (the best of a sweep), all "
            "images read first and then sorted by bucket, which no server can do. Closed model: "
            f"{CONCURRENCY} images in flight. Ratios are medians over {rounds} pairs measured in turn."
        ),
    ]
    return report


def _ways(bench: Bench, jpegs: list[bytes]) -> list[Way]:
    images, model = bench.pictures.pixels_BHWC, bench.model
    return [
        Way("binary, single images", binary_requests(model, images, 1)),
        Way("binary, batches of 8", binary_requests(model, images, CLIENT_BATCH), batch=CLIENT_BATCH),
        Way("JPEG, single images", [jpeg_request(model, jpeg) for jpeg in jpegs], is_jpeg=True),
    ]


def _compare(
    report: Report, bench: Bench, server: Server, direct: Direct, way: Way, best: int, rounds: int, seconds: float
) -> None:
    latencies_s: list[float] = []

    def through_http() -> float:
        rate, closed = bench.rate(server, way.requests, concurrency=way.concurrency, seconds=seconds)
        latencies_s.extend(closed.warm_latencies_s)
        return rate * way.batch

    def directly() -> float:
        return direct.jpeg_rate(best, seconds) if way.is_jpeg else direct.rate(best, seconds)

    paired = alternate(directly, through_http, rounds)
    low, high = paired.spread
    report.rows.append(
        {
            "way": way.name,
            "direct images/s": sorted(paired.a)[len(paired.a) // 2],
            "HTTP images/s": sorted(paired.b)[len(paired.b) // 2],
            "ratio": paired.ratio,
            "lowest": low,
            "highest": high,
            **percentiles_ms(latencies_s or [inf]),
        }
    )
    report.details[way.name] = {"direct": paired.a, "http": paired.b, "ratios": paired.ratios}
    limit = AIMS.get(bench.model, {}).get(way.name)
    if limit is not None:
        report.aims.append(Aim(f"efficiency, {bench.model}, {way.name}", paired.ratio, limit))


if __name__ == "__main__":
    main()
