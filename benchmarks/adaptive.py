"""`python -m benchmarks.adaptive`: the throughput that adaptive tape lengths and caps gain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.command import CONCURRENCY, Bench, Options, add_family, parser, print_progress, run
from benchmarks.counters import add_up
from benchmarks.inputs import binary_requests
from benchmarks.ratios import Paired, alternate, percentiles_ms, r_squared
from benchmarks.report import Aim, Report
from benchmarks.repositories import write_variant
from loadtest.process import Server
from server.models.manifest import Manifest

EQUAL_ACCURACY = 0.003
CLIENT_BATCH = 8
MIN_SPEEDUP, MIN_ZERO_SPEEDUP, MIN_R_SQUARED = 1.3, 1.8, 0.98


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the adaptive engine against the same engine padded to the maximum, then all caps."""
    options = parser("adaptive", "adaptive engine ÷ the same engine padded to the maximum, and caps 0 to the maximum")
    add_family(options)
    options.add_argument("--rounds", type=int, default=5, help="A B pairs (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default: %(default)s)")
    options.add_argument("--sweeps", type=int, default=3, help="over all caps (default: %(default)s)")
    run(measure, options, arguments)


def cap_at_equal_accuracy(manifest: Manifest) -> int:
    """Return the smallest cap whose accuracy on the quality curve is that of the full tape, less 0.3 points at most."""
    points = sorted(manifest.quality.points, key=lambda point: point.cap)
    enough = points[-1].accuracy - EQUAL_ACCURACY
    return next(point.cap for point in points if point.accuracy >= enough)


class Sender:
    """Saturates one server with the pictures at a cap."""

    def __init__(self, bench: Bench, server: Server, seconds: float) -> None:
        self._bench, self._server, self._seconds = bench, server, seconds
        self._requests: dict[int, list[bytes]] = {}
        self.latencies_s: dict[int, list[float]] = {}
        self.flops_each: dict[int, float] = {}

    def rate(self, cap: int) -> float:
        """Return images a second at a cap, and keep latencies and executed FLOPs for each image."""
        if cap not in self._requests:
            images = self._bench.pictures.pixels_BHWC
            self._requests[cap] = binary_requests(self._bench.model, images, CLIENT_BATCH, {"max_tape": cap})
        before = add_up(self._server.metrics())
        concurrency = CONCURRENCY // CLIENT_BATCH
        requests, seconds = self._requests[cap], self._seconds
        rate, closed = self._bench.rate(self._server, requests, concurrency=concurrency, seconds=seconds)
        self.flops_each[cap] = add_up(self._server.metrics()).since(before).flops_each
        self.latencies_s.setdefault(cap, []).extend(closed.warm_latencies_s)
        return rate * CLIENT_BATCH

    def at(self, cap: int) -> Callable[[], float]:
        return lambda: self.rate(cap)


def measure(options: Options) -> Report:
    """Boot both engines on the server's core and load one at a time: under four minutes with the defaults."""
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    bench = Bench(options, num_pictures=1024)
    if bench.repository is None:
        raise SystemExit("adaptive; got --fake; expected a family with graphs")
    report = Report("adaptive", f"Adaptive against padded, and caps, {bench.model}")
    full = bench.manifest.tape_capacity
    with TemporaryDirectory() as folder:
        write_variant(bench.repository, bench.manifest, Path(folder), [0, full])
        padded_bench = Bench(options, num_pictures=1)
        padded_bench.repository, padded_bench.pictures = Path(folder), bench.pictures
        with bench.start_server() as server, padded_bench.start_server() as padded:
            adaptive = Sender(bench, server, seconds)
            _compare(report, bench, adaptive, Sender(bench, padded, seconds), rounds)
            _sweep(report, bench, adaptive, 1 if options.quick else options.sweeps, is_quick=options.quick)
    report.notes += [
        bench.describe(),
        (
            "Padded: the same server, reader and weights, with the buckets 0 and the tape capacity only. "
            "Both over HTTP, "
            f"binary batches of {CLIENT_BATCH}, {CONCURRENCY} images in flight, both servers on one core, one "
            "loaded at a "
            "time. Executed FLOPs are the server's own counters. The cap of equal accuracy is read off the manifest's "
            f"quality curve ({bench.manifest.quality.num_samples} samples): the smallest within 0.3 points of the full "
            "tape."
        ),
    ]
    return report


def _compare(report: Report, bench: Bench, adaptive: Sender, padded: Sender, rounds: int) -> None:
    full, cap = bench.manifest.tape_capacity, cap_at_equal_accuracy(bench.manifest)
    print_progress(f"{rounds} pairs each: full tape, equal accuracy, cap 0")
    same_tape = alternate(padded.at(full), adaptive.at(full), rounds)
    equal_accuracy = alternate(padded.at(full), adaptive.at(cap), rounds)
    zero = alternate(adaptive.at(full), adaptive.at(0), rounds)
    for name, paired in (
        ("full tape, own buckets ÷ padded", same_tape),
        (f"cap {cap} (equal accuracy) ÷ padded full tape", equal_accuracy),
        ("cap 0 ÷ full tape, both own buckets", zero),
    ):
        report.rows.append(_row(name, paired))
    report.aims += [
        Aim(f"adaptive ÷ padded at equal accuracy (cap {cap})", equal_accuracy.ratio, MIN_SPEEDUP),
        Aim("throughput at cap 0 ÷ full tape", zero.ratio, MIN_ZERO_SPEEDUP),
    ]


def _row(name: str, paired: Paired) -> dict[str, object]:
    low, high = paired.spread
    rates = {"A images/s": median(paired.a), "B images/s": median(paired.b)}
    return {"what": name, **rates, "B ÷ A": paired.ratio, "lowest": low, "highest": high}


def _sweep(report: Report, bench: Bench, sender: Sender, rounds: int, *, is_quick: bool) -> None:
    """Measure every cap of the quality curve in turn, several times, and fit time against executed FLOPs."""
    points = {point.cap: point for point in bench.manifest.quality.points}
    caps = sorted(points)[:: 4 if is_quick else 1]
    measured: dict[int, list[float]] = {cap: [] for cap in caps}
    for number in range(rounds):
        print_progress(f"sweep {number + 1} of {rounds} over {len(caps)} caps")
        for cap in caps:
            measured[cap].append(1 / sender.rate(cap))
    seconds = {cap: median(each) for cap, each in measured.items()}
    flops = [sender.flops_each[cap] for cap in caps]
    intercept_s, slope, fit = r_squared(flops, [seconds[cap] for cap in caps])
    for cap in caps:
        report.rows.append(
            {
                "what": f"cap {cap}",
                "images/s": 1 / seconds[cap],
                "executed MFLOPs": sender.flops_each[cap] / 1e6,
                "accuracy": points[cap].accuracy,
                **percentiles_ms(sender.latencies_s[cap]),
            }
        )
    report.details["fit"] = {"intercept_s": intercept_s, "s_per_flop": slope, "r_squared": fit}
    report.aims.append(Aim("linearity of time in executed FLOPs (R²)", fit, MIN_R_SQUARED))


if __name__ == "__main__":
    main()
