"""`python -m benchmarks.peers`: the same padded graph on other servers, and our engine beside them."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.adaptive import cap_at_equal_accuracy
from benchmarks.command import (
    CONCURRENCY,
    Bench,
    Options,
    add_family,
    closed_run,
    open_run,
    parser,
    print_progress,
    run,
)
from benchmarks.inputs import binary_request, binary_requests
from benchmarks.memory import private_mib
from benchmarks.peers.figures import Figures, SideBySide, read_details, to_details
from benchmarks.peers.start import COMMANDS, running
from benchmarks.report import Report, hide_paths
from loadtest.arrivals import poisson
from loadtest.lean_http import render
from loadtest.machine import process_tree
from server.records import Pixels

SHARE_OF_SATURATION = 0.9
JSON = {"Content-Type": "application/json"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each peer with ours beside it: with the defaults about a minute and a half for each."""
    options = parser("peers", "images/s, latency, memory and start of other servers with the same padded graph")
    add_family(options)
    options.add_argument(
        "--peers", nargs="+", choices=list(COMMANDS), help="which to run (default: all; one with --quick)"
    )
    options.add_argument(
        "--join", type=Path, nargs="+", default=[], metavar="JSON", help="earlier results to report with this one's"
    )
    options.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=2, help="A B of each peer (default: %(default)s)")
    run(measure, options, arguments)


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


def measure(options: Options) -> Report:
    """Run each peer with ours beside it, and join what earlier runs found."""
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    found, runs = read_details(options.join)
    bench = Bench(options, num_pictures=512)
    if bench.repository is None:
        raise SystemExit("peers; got --fake; expected a family with graphs")
    for peer in options.peers if options.peers is not None else _default_peers(options):
        print_progress(f"{peer}: {rounds} rounds beside ours")
        found.append(_side_by_side(bench, peer, rounds, seconds))
    report = Report("peers", f"Other servers with the same padded graph, {bench.model}")
    for each in found:
        report.rows += each.rows()
        report.aims += each.aims()
    report.details["peers"] = to_details(found)
    report.notes = [bench.describe(), _method(bench), *(f"Did not run: {each.error}" for each in found if each.error)]
    not_asked = sorted(set(COMMANDS) - {each.peer for each in found})
    report.notes += [f"Not asked for: {', '.join(not_asked)}."] if not_asked else []
    report.notes += ["Joined from these runs:\n\n" + "\n".join(f"- {run}" for run in runs)] if runs else []
    return report


def _default_peers(options: Options) -> list[str]:
    """All, none where earlier results are joined, and one where there is but a minute."""
    return [] if options.join else list(COMMANDS)[: 1 if options.quick else None]


def _method(bench: Bench) -> str:
    return (
        "Each peer and ours are started, measured and stopped in turn, A B A B, on the server's core. "
        "Peers run the reader and the trunk at the tape capacity on each image, in onnxruntime with one thread, "
        f"batches of up to {bench.manifest.max_batch_size}; ours answers at cap "
        f"{cap_at_equal_accuracy(bench.manifest)}, which the quality curve puts within 0.3 points of the full tape. "
        "Triton and Ray Serve get binary pixels, the others base64 in JSON. "
        f"Images/s with {CONCURRENCY} in flight; p99 from the intended send time, Poisson arrivals at 90 % of each "
        "server's own saturation; private memory of all its processes after that. A start ends with the first answer, "
        "ours when it is ready. Figures are medians over the rounds, ratios medians over neighbours."
    )


def _side_by_side(bench: Bench, peer: str, rounds: int, seconds: float) -> SideBySide:
    """Measure a peer and ours in turn; that a peer cannot be measured is a finding, not the end."""
    assert bench.repository is not None
    images, found = bench.pictures.pixels_BHWC, SideBySide(peer)
    requests = binary_requests(bench.model, images, 1, {"max_tape": cap_at_equal_accuracy(bench.manifest)})
    theirs = to_requests(peer, images)
    for _ in range(rounds):
        try:
            with _running(bench, peer, theirs[0]) as (url, pid, ready_s):
                _measure_one(found.theirs, theirs, url, pid, seconds)
                found.theirs.ready_s.append(ready_s)
        except (SystemExit, OSError) as error:
            found.error = f"{peer}: {reason(error)}"
            break
        with bench.start_server() as server:
            _measure_one(found.ours, requests, server.url, server.pid, seconds)
            found.ours.ready_s.append(server.ready_s)
    return found


@contextmanager
def _running(bench: Bench, peer: str, request: bytes) -> Iterator[tuple[str, int, float]]:
    """Start a peer in a folder of its own; give its address, its process and its start."""
    assert bench.repository is not None
    with (
        TemporaryDirectory() as work,
        running(peer, bench.repository, bench.manifest, Path(work), bench.server_core, request) as (port, pid, ready_s),
    ):
        yield f"http://127.0.0.1:{port}", pid, ready_s


def reason(error: BaseException) -> str:
    """Return the last words of an error, without this machine's paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = (lines[-1] if len(lines) < 2 else " … ".join(lines[-3:])).split()
    return " ".join(hide_paths(words))


def _measure_one(figures: Figures, requests: list[bytes], url: str, pid: int, seconds: float) -> None:
    closed_run(url, requests, concurrency=8, seconds=min(1.0, seconds))
    alone = closed_run(url, requests, concurrency=1, seconds=seconds)
    full = closed_run(url, requests, concurrency=CONCURRENCY, seconds=seconds)
    if not full.rate:
        raise SystemExit(f"--seconds; got {seconds:g}, in which no two batches were answered; expected more")
    times = poisson(SHARE_OF_SATURATION * full.rate, seconds, np.random.default_rng(3))
    figures.rate.append(full.rate)
    figures.p50_ms.append(median(alone.warm_latencies_s) * 1e3)
    figures.p99_ms.append(open_run(url, requests, times).percentile(99) * 1e3)
    figures.mib.append(sum(private_mib(each) for each in process_tree(pid)))


if __name__ == "__main__":
    main()
