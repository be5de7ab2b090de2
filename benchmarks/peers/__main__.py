"""`python -m benchmarks.peers`: the same padded graph on other servers, and our engine beside them."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.adaptive import cap_at_equal_accuracy
from benchmarks.booting import serving
from benchmarks.command import CONCURRENCY, Bench, Options, add_family, closed_run, parser, run
from benchmarks.inputs import binary_request, binary_requests
from benchmarks.memory import private_mib
from benchmarks.peers.boot import COMMANDS, running, tree
from benchmarks.report import Aim, Report
from benchmarks.simulate import open_run
from loadtest.arrivals import poisson
from loadtest.wire import render
from server.records import Pixels

PYTHON_SERVERS = ("litserve", "bentoml", "mlserver", "rayserve")
MIN_OVER_PYTHON, MIN_OVER_TRITON = 1.5, 1.25
SHARE_OF_SATURATION = 0.9
JSON = {"Content-Type": "application/json"}
OURS = "adatape-serve"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each peer in turn, ours before and after each of them."""
    options = parser("peers", "images/s, latency, memory and start of other servers with the same padded graph")
    add_family(options)
    options.add_argument("--peers", nargs="+", default=list(COMMANDS), choices=list(COMMANDS), help="which to run")
    options.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=2, help="of all servers in turn (default: %(default)s)")
    run(measure, options, arguments)


@dataclass(slots=True)
class Figures:
    """One server's measurements, a value a round. Units: `*_ms` milliseconds, `ready_s` seconds."""

    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)

    def row(self, name: str) -> dict[str, object]:
        return {
            "server": name,
            "n": len(self.rate),
            "images/s": median(self.rate),
            "p50_ms, concurrency 1": median(self.p50_ms),
            "p99_ms at 90 %": median(self.p99_ms),
            "private MiB": median(self.mib),
            "start s": median(self.ready_s),
        }


def to_requests(peer: str, images: Pixels) -> list[bytes]:
    """Return the pictures in the leanest form that a peer takes without code of its framework's internals."""
    encode: dict[str, Callable[[Pixels], bytes]] = {
        "triton": lambda image: binary_request("padded", image[None]),
        "litserve": lambda image: _json("/predict", {"image": _base64(image)}),
        "bentoml": lambda image: _json("/predict", {"image": [_base64(image)]}),
        "mlserver": lambda image: _json("/v2/models/padded/infer", _oip(_base64(image))),
        "rayserve": lambda image: render("/", image.tobytes()),
    }
    return [encode[peer](image) for image in images]


def _json(path: str, document: object) -> bytes:
    return render(path, json.dumps(document).encode(), JSON)


def _base64(image: Pixels) -> str:
    return base64.b64encode(image.tobytes()).decode()


def _oip(text: str) -> object:
    return {
        "inputs": [
            {
                "name": "image",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"content_type": "base64"},
                "data": [text],
            }
        ]
    }


@contextmanager
def _running(bench: Bench, name: str, work: Path) -> Iterator[tuple[str, int, float]]:
    """Start one server, ours or a peer; give its address, its process and its start."""
    assert bench.repository is not None
    if name in COMMANDS:
        with running(name, bench.repository, bench.manifest, work, bench.server_core) as (port, pid, ready_s):
            yield f"http://127.0.0.1:{port}", pid, ready_s
    else:
        with serving(bench.repository, core=bench.server_core) as served:
            yield served.url, served.pid, served.ready_s


def measure(options: Options) -> Report:
    """Run every server in turn, as often as there are rounds."""
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    bench = Bench(options, num_pictures=512)
    if bench.repository is None:
        raise SystemExit("peers; got --fake; expected a family with graphs")
    images, cap = bench.pictures.pixels_BHWC, cap_at_equal_accuracy(bench.manifest)
    requests = {peer: to_requests(peer, images) for peer in options.peers}
    requests[OURS] = binary_requests(bench.model, images, 1, {"max_tape": cap})
    figures: dict[str, Figures] = {name: Figures() for name in requests}
    for _ in range(rounds):
        for name, asked in requests.items():
            with TemporaryDirectory() as work, _running(bench, name, Path(work)) as (url, pid, ready_s):
                _measure_one(figures[name], asked, url, pid, seconds)
                figures[name].ready_s.append(ready_s)
    report = Report("peers", f"Other servers with the same padded graph, {bench.model}")
    report.rows = [each.row(name) for name, each in figures.items()]
    report.aims = list(_aims(figures))
    report.notes = [
        bench.describe(),
        (
            "Peers run the reader and the trunk at the tape capacity on each image, in onnxruntime with one thread, "
            f"batches of up to {bench.manifest.max_batch_size}; ours answers at cap {cap}, which the quality curve "
            "puts within 0.3 points of the full tape. Triton and Ray Serve get binary pixels, the others base64 in "
            f"JSON. Images/s with {CONCURRENCY} in flight; p99 from the intended send time, Poisson arrivals at 90 % "
            "of each server's own saturation; private memory of all its processes after that. A start ends when the "
            "port takes connections, ours when it is ready."
        ),
        f"Not run here: {', '.join(sorted(set(COMMANDS) - set(options.peers))) or 'none'}.",
    ]
    return report


def _measure_one(figures: Figures, requests: list[bytes], url: str, pid: int, seconds: float) -> None:
    closed_run(url, requests, concurrency=8, seconds=min(1.0, seconds))
    alone = closed_run(url, requests, concurrency=1, seconds=seconds)
    full = closed_run(url, requests, concurrency=CONCURRENCY, seconds=seconds)
    times = poisson(SHARE_OF_SATURATION * full.rate, seconds, np.random.default_rng(3))
    figures.rate.append(full.rate)
    figures.p50_ms.append(median(alone.warm_latencies_s) * 1e3)
    figures.p99_ms.append(open_run(url, requests, times).percentile(99) * 1e3)
    figures.mib.append(sum(private_mib(each) for each in tree(pid)))


def _aims(figures: dict[str, Figures]) -> Iterator[Aim]:
    ours = figures[OURS]
    for name, each in figures.items():
        limit = MIN_OVER_PYTHON if name in PYTHON_SERVERS else MIN_OVER_TRITON
        if name != OURS:
            ratio = median(mine / theirs for mine, theirs in zip(ours.rate, each.rate, strict=True))
            yield Aim(f"images/s at equal accuracy ÷ {name}", ratio, limit)
        if name in PYTHON_SERVERS:
            yield Aim(f"p50 at concurrency 1 ÷ {name}", median(ours.p50_ms) / median(each.p50_ms), 1.0, False)


if __name__ == "__main__":
    main()
