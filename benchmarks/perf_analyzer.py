"""`python -m benchmarks.perf_analyzer`: NVIDIA's perf_analyzer drives our ports, and its figures stand beside ours."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.command import Bench, Options, add_family, parser, run
from benchmarks.perf_tool import Measured, Tool, install
from benchmarks.perf_watch import Seen, watching
from benchmarks.report import Aim, Report, Row
from server.records import Pixels

MAX_GAP = 0.10
PROTOCOLS = {"http": "oip", "grpc": "oip_grpc"}
"""What our metrics call the tool's protocols."""
NO_SHEDDING = ("--max-pending-samples", "inf", "--max-pending-s", "inf")
"""One refused request would end the tool's run."""
CONCURRENCIES = (1, 8, 32)
LOADS = (0.3, 0.6)
"""Poisson rates, as shares of the rate at the highest concurrency."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the tool against HTTP and gRPC, closed and open, with and without caps."""
    options = parser("perf_analyzer", "perf_analyzer against HTTP and gRPC: throughput and p99 beside our own metrics")
    add_family(options)
    options.add_argument("--seconds", type=float, default=5.0, help="of each of three windows (default: %(default)s)")
    run(measure, options, arguments)


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the tool: a protocol, a load, a cap."""

    protocol: str
    load: str
    arguments: tuple[str, ...]
    cap: int | None = None

    def to_arguments(self) -> list[str]:
        """Return the tool's arguments; a cap goes as a parameter over gRPC and as a header over HTTP, its only ways."""
        if self.cap is None:
            return list(self.arguments)
        way = ["--request-parameter", f"max_tape:{self.cap}:int"]
        return [*self.arguments, *(way if self.protocol == "grpc" else ["-H", f"X-Max-Tape:{self.cap}"])]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tool and the server say of the same windows."""

    case: Case
    measured: Measured
    seen: Seen

    @property
    def is_open(self) -> bool:
        """Say whether requests came when they were due: closed ones at saturation wait where no server sees them."""
        return "--request-rate-range" in self.case.arguments

    @property
    def rate_gap(self) -> float:
        return abs(self.measured.rate - self.seen.rate) / self.seen.rate

    @property
    def p99_gap(self) -> float:
        return self.seen.p99_gap(self.measured.p99_s)

    @property
    def mean_gap(self) -> float:
        """Return by how much the server's statistics, which the tool reads, differ from its metrics."""
        return abs(self.measured.server_s - self.seen.mean_s) / self.seen.mean_s

    def row(self) -> Row:
        return {
            "protocol": self.case.protocol,
            "load": self.case.load,
            "max_tape": "none" if self.case.cap is None else self.case.cap,
            "tool, 1/s": self.measured.rate,
            "metrics, 1/s": self.seen.rate,
            "tool p50_ms": self.measured.p50_s * 1000,
            "tool p99_ms": self.measured.p99_s * 1000,
            "metrics p99_ms": f"{self.seen.p99_low_s * 1000:.3g} to {self.seen.p99_high_s * 1000:.3g}",
            "statistics mean_ms": self.measured.server_s * 1000,
            "metrics mean_ms": self.seen.mean_s * 1000,
        }


class Runner:
    """The tool, a server, and the images that one asks the other about."""

    def __init__(self, tool: Tool, model: str, url: str, grpc: str, work: Path, window_s: float) -> None:
        self._tool = tool
        self._model = model
        self._url = url
        self._places = {"http": url.removeprefix("http://"), "grpc": grpc}
        self._work = work
        self._window_s = window_s

    def run(self, case: Case) -> Outcome:
        """Run the tool once, and watch the server's metrics meanwhile."""
        data = ["--input-data", str(self._work / "input.json")]
        place = ["-m", self._model, "-i", case.protocol, "-u", self._places[case.protocol]]
        with watching(self._url, PROTOCOLS[case.protocol], self._window_s) as watch:
            measured = self._tool.run([*place, *data, *case.to_arguments()], self._work, self._window_s)
        return Outcome(case, measured, watch.between(measured.start_s, measured.end_s))

    def run_all(self, protocol: str, caps: Sequence[int], *, is_quick: bool) -> list[Outcome]:
        """Run closed loads, open ones below what they reached, then caps at the highest concurrency."""
        concurrencies = CONCURRENCIES[1:2] if is_quick else CONCURRENCIES
        closed = [self.run(_closed(protocol, number)) for number in concurrencies]
        most = max(outcome.measured.rate for outcome in closed)
        loads = LOADS[:1] if is_quick else LOADS
        opened = [self.run(_poisson(protocol, most * share)) for share in loads]
        capped = [self.run(_closed(protocol, concurrencies[-1], cap)) for cap in caps]
        return [*closed, *opened, *capped]


def _closed(protocol: str, concurrency: int, cap: int | None = None) -> Case:
    return Case(protocol, f"concurrency {concurrency}", ("--concurrency-range", str(concurrency)), cap)


def _poisson(protocol: str, rate: float) -> Case:
    arguments = ("--request-rate-range", f"{rate:.0f}", "--request-distribution", "poisson")
    return Case(protocol, f"Poisson {rate:.0f}/s", arguments)


def measure(options: Options) -> Report:
    """Install the tool, serve a family, run all cases."""
    tool = install()
    bench = Bench(options, num_pictures=16 if options.quick else 64)
    window_s = 1.5 if options.quick else options.seconds
    capacity = bench.manifest.tape_capacity
    caps = [capacity // 2] if options.quick else [0, capacity // 2]
    with TemporaryDirectory() as folder, bench.start_server(*NO_SHEDDING) as server:
        work = Path(folder)
        (work / "input.json").write_text(to_input(bench.pictures.pixels_BHWC))
        runner = Runner(tool, bench.model, server.url, server.grpc, work, window_s)
        outcomes = [each for name in PROTOCOLS for each in runner.run_all(name, caps, is_quick=options.quick)]
    return _to_report(bench, outcomes, tool.version())


def to_input(image_BHWC: Pixels) -> str:
    """Return images as the tool's input data; it would invent data for the optional inputs too if given none."""
    shape = list(image_BHWC.shape[1:])
    return json.dumps(
        {"data": [{"image": {"content": image.ravel().tolist(), "shape": shape}} for image in image_BHWC]}
    )


def _to_report(bench: Bench, outcomes: Sequence[Outcome], version: str) -> Report:
    report = Report("perf_analyzer", f"perf_analyzer against HTTP and gRPC, {bench.model}")
    report.rows = [outcome.row() for outcome in outcomes]
    gaps = {
        "throughput, largest difference of tool and metrics": max(outcome.rate_gap for outcome in outcomes),
        "p99 under Poisson load, largest distance of the tool's from the metrics' bucket": max(
            outcome.p99_gap for outcome in outcomes if outcome.is_open
        ),
        "mean, largest difference of statistics and metrics": max(outcome.mean_gap for outcome in outcomes),
    }
    report.aims = [Aim(name, gap, MAX_GAP, is_at_least=False) for name, gap in gaps.items()]
    report.notes = [
        bench.describe() + f" {version}.",
        (
            "Each case is one run of the tool over three windows; the server's metrics are read once in each window "
            "and compared between the first and the last reading. A histogram knows its p99 to a bucket, so that is "
            "what is compared. The tool's latency is the caller's, with connection and client; the metrics' runs from "
            "arrival to answer. Where a closed load saturates the server, requests wait in sockets and in gRPC before "
            "they arrive, so there only throughput, and the mean that the server's statistics tell the tool, are held "
            "against the metrics. Over gRPC the metrics begin where Python's gRPC hands a request over, several turns "
            "of the event loop after it came: what it waits for the interpreter until then, while a batch is formed or "
            "a page of metrics rendered, is in the tool's p99 alone."
        ),
    ]
    return report


if __name__ == "__main__":
    main()
