"""`python -m benchmarks.memory`: the memory of buckets and of a family, and the time of a start."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.command import CONCURRENCY, Bench, Options, add_family, closed_run, parser, run
from benchmarks.inputs import binary_requests
from benchmarks.report import Aim, Report
from benchmarks.repositories import write_variant

MAX_RATIO, MAX_MIB, MAX_READY_S = 1.15, 140.0, 1.5
CLIENT_BATCH = 8
MIB = 1024.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the server several times with all buckets and with one, and look at its private memory."""
    options = parser("memory", "private memory, all buckets ÷ one bucket; process total; time from start to ready")
    add_family(options)
    options.add_argument("--rounds", type=int, default=5, help="starts of each kind (default: %(default)s)")
    run(measure, options, arguments)


def private_mib(pid: int) -> float:
    """Return the memory that would be free without this process, from the kernel's own account."""
    return parse_private_mib(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_private_mib(rollup: str) -> float:
    """Add up the private pages of an smaps_rollup."""
    kib = [
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith(("Private_Clean:", "Private_Dirty:"))
    ]
    return sum(kib) / MIB


def measure(options: Options) -> Report:
    """Start with all buckets and with one bucket in turn."""
    rounds = 1 if options.quick else options.rounds
    bench = Bench(options, num_pictures=256)
    if bench.repository is None:
        raise SystemExit("memory; got --fake; expected a family with graphs")
    starts: dict[str, list[tuple[float, float, float]]] = {"all buckets": [], "one bucket": []}
    with TemporaryDirectory() as one, TemporaryDirectory() as every:
        write_variant(bench.repository, bench.manifest, Path(one), [0, bench.manifest.tape_capacity])
        write_variant(bench.repository, bench.manifest, Path(every), bench.manifest.buckets)
        for _ in range(rounds):
            starts["all buckets"].append(_start(bench, Path(every)))
            starts["one bucket"].append(_start(bench, Path(one)))
    return _to_report(bench, starts)


def _start(bench: Bench, repository: Path) -> tuple[float, float, float]:
    """Return seconds from start to ready, and private MiB when ready and after load on every bucket."""
    requests = binary_requests(bench.model, bench.pictures.pixels_BHWC, CLIENT_BATCH)
    for cap in bench.manifest.buckets:
        requests += binary_requests(bench.model, bench.pictures.pixels_BHWC, CLIENT_BATCH, {"max_tape": cap})
    with bench.start_server(repository=repository) as server:
        idle_mib = private_mib(server.pid)
        closed_run(server.url, requests, concurrency=CONCURRENCY // CLIENT_BATCH, seconds=3.0)
        return server.ready_s, idle_mib, private_mib(server.pid)


def _to_report(bench: Bench, starts: dict[str, list[tuple[float, float, float]]]) -> Report:
    report = Report("memory", f"Memory and start, {bench.model}")
    columns = ("start to ready s", "private MiB, ready", "private MiB, after load")
    medians = {kind: [median(column) for column in zip(*each, strict=True)] for kind, each in starts.items()}
    report.rows = [
        {"server": kind, "n": len(starts[kind]), **dict(zip(columns, values, strict=True))}
        for kind, values in medians.items()
    ]
    every, one = medians["all buckets"], medians["one bucket"]
    report.aims = [
        Aim("private memory, all buckets ÷ one bucket, ready", every[1] / one[1], MAX_RATIO, is_at_least=False),
        Aim("private memory, all buckets ÷ one bucket, after load", every[2] / one[2], MAX_RATIO, is_at_least=False),
        Aim("process total with one family, ready, MiB", every[1], MAX_MIB, is_at_least=False),
        Aim("start to ready, all buckets warm, s", every[0], MAX_READY_S, is_at_least=False),
    ]
    report.notes = [
        bench.describe(),
        (
            "One bucket: the same family with the buckets 0 and the tape capacity, the fewest that a "
            "manifest may have. "
            "Private memory is Private_Clean + Private_Dirty of the process. Ready is the log line that says so, seen "
            "from outside, interpreter start and hashing of the graphs included; the server runs on one core."
        ),
    ]
    report.details["starts"] = starts
    return report


if __name__ == "__main__":
    main()
