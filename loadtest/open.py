"""`python -m loadtest.open`: send an open load to a running server, and report cost and quality of each cap.

Each request is sent when it is due, whether earlier ones are answered or not, and its latency counts from that moment.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from loadtest.api_key import HELP, OPTION, to_headers
from loadtest.arrivals import Times, bursty, poisson, read_trace, scale, steps
from loadtest.infer_requests import CLASSIFY, FORMS, Answer, Pictures, load_pictures, read_reply, to_request
from loadtest.lean_http import Client, Reply
from loadtest.load import raise_file_limit, run_open
from loadtest.report import FIGURES, REQUESTS, SUMMARY, Report
from loadtest.summary import OK, Run, Thresholds, sum_up
from loadtest.target import FULL, Target, find_target
from loadtest.usage_errors import MISSED, UsageError, exit_with

POISSON, STEP, BURST = "poisson", "step", "burst"
STEPS = (0.5, 1.0, 1.5, 2.0)
CALLERS = 8
"""Ask for the reference answers."""
AUTO_SHARE, MAX_AUTO_RATE = 0.9, 500.0
"""Without a rate: this share of what the server answered at full tape, but no more than that."""
Reference = Sequence[int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Load a server; return 0, or 1 where a threshold was missed.

    Raises: UsageError if there is nothing to load, or nothing to load it with.
    """
    options = _parser().parse_args(arguments)
    target = find_target(options.url, options.model, to_headers(options.api_key))
    caps = target.caps(options.max_tape)
    pictures = load_pictures(target, options.pictures, options.photos)
    raise_file_limit()
    load = Load(target, options.form, pictures)
    reference, capacity = asyncio.run(load.ask_once())
    rate = options.rate or (None if _is_trace(options.arrivals) else min(AUTO_SHARE * capacity, MAX_AUTO_RATE))
    times_s = arrivals(options.arrivals, rate, options.seconds, options.seed)
    print(_announce(target, options, len(times_s) / options.seconds, capacity, caps))
    runs = _run_all(load, caps, times_s, options.seconds)
    report = _to_report(options, load, runs, reference, capacity)
    page = report.write(options.report)
    print(report.table(), *report.misses, sep="\n")
    print(f"report: {page}  ({FIGURES}, {SUMMARY}, {REQUESTS} beside it)")
    return MISSED if report.misses else 0


def arrivals(kind: str, rate: float | None, seconds: float, seed: int) -> Times:
    """Return when requests are due; `rate` None keeps a trace's own.

    Raises: UsageError if there is no such kind or no such file, or if nothing arrives.
    """
    rng = np.random.default_rng(seed)
    if _is_trace(kind):
        times = _replay(Path(kind), rate, seconds)
    else:
        assert rate is not None
        kinds = {POISSON: poisson, BURST: bursty, STEP: _staircase}
        times = kinds[kind](rate, seconds, rng)
    if not len(times):
        raise UsageError("arrivals", f"none in {seconds:g} s", "a higher rate or more seconds")
    return times


def _staircase(rate: float, seconds: float, rng: np.random.Generator) -> Times:
    return steps([step * rate for step in STEPS], seconds / len(STEPS), rng)


def _is_trace(kind: str) -> bool:
    return kind not in {POISSON, STEP, BURST}


def _replay(path: Path, rate: float | None, seconds: float) -> Times:
    try:
        trace = read_trace(path)
    except OSError as error:
        expected = f"{POISSON}, {STEP}, {BURST}, or a CSV file with a column arrival_s"
        raise UsageError("arrivals", path, expected) from error
    except ValueError as error:
        raise UsageError(f"{path}: arrivals", str(error).split("got ", 1)[-1], "times in seconds") from error
    return scale(trace, rate or (len(trace) - 1) / float(trace[-1]), seconds)


@dataclass(frozen=True, slots=True)
class Load:
    """Who asks whom about what."""

    target: Target
    form: str
    pictures: Pictures

    def requests(self, cap: int) -> list[bytes]:
        """Return each picture as a request under a cap."""
        return [to_request(self.form, self.target, self.pictures, i, cap).render() for i in range(len(self.pictures))]

    async def ask_once(self) -> tuple[Reference, float]:
        """Ask about each picture at full tape with few callers; return the classes, and the answers a second.

        Raises: UsageError if one is not answered.
        """
        client, requests = Client(self.target.url), self.requests(self.target.tape_capacity)
        waiting, best = list(enumerate(requests)), [0] * len(requests)

        async def call() -> None:
            while waiting:
                index, request = waiting.pop()
                best[index] = self._read(await client.send(request)).best

        started_s = asyncio.get_running_loop().time()
        try:
            await asyncio.gather(*(call() for _ in range(CALLERS)))
        finally:
            await client.close()
        return best, len(requests) / (asyncio.get_running_loop().time() - started_s)

    async def run(self, cap: int, times_s: Times, duration_s: float, tick: Callable[[], object]) -> Run:
        """Send requests under a cap at the times given, and gather what comes back."""
        requests = self.requests(cap)
        answers: list[Answer | None] = [None] * len(times_s)
        client = Client(self.target.url)

        def on_reply(number: int, reply: Reply, latency_s: float) -> None:
            del latency_s
            if reply.status == OK:
                answers[number] = read_reply(self.form, reply)
            tick()

        try:
            outcomes = await run_open(client, lambda number: requests[number % len(requests)], times_s, on_reply)
        finally:
            await client.close()
        pictures = [number % len(requests) for number in range(len(times_s))]
        return Run(cap, self.target.name_of(cap), duration_s, outcomes, answers, pictures)

    def _read(self, reply: Reply) -> Answer:
        if reply.status != OK:
            text = reply.body.decode(errors="replace").strip() or "a broken connection"
            raise UsageError("a first request at full tape", f"{reply.status} {text}", "an answer from an idle server")
        return read_reply(self.form, reply)


def _run_all(load: Load, caps: Sequence[int], times_s: Times, seconds: float) -> list[Run]:
    runs = []
    with tqdm(total=len(caps) * len(times_s), unit="request", disable=None, leave=False) as bar:
        for cap in caps:
            bar.set_description(f"cap {load.target.name_of(cap)}")
            try:
                runs.append(asyncio.run(load.run(cap, times_s, seconds, partial(bar.update, 1))))
            except OSError as error:
                raise UsageError(f"server at {load.target.url}", error, "one that keeps running") from error
    return runs


def _announce(target: Target, options: argparse.Namespace, rate: float, capacity: float, caps: Sequence[int]) -> str:
    names = ", ".join(map(target.name_of, caps))
    return (
        f"{target.model}/{target.version} on {target.device}: {rate:.4g} requests/s ({options.arrivals}) for "
        f"{options.seconds:g} s at each cap of {names}; {CALLERS} callers at full tape got {capacity:.4g} answers/s"
    )


def _to_report(
    options: argparse.Namespace, load: Load, runs: Sequence[Run], reference: Reference, capacity: float
) -> Report:
    target, rows = load.target, [sum_up(run, load.target.curve, reference, options.slo_ms / 1e3) for run in runs]
    shown = ("url", "form", "arrivals", "seconds", "seed", "slo_ms")
    settings = {
        "model": f"{target.model}/{target.version} on {target.device}",
        "pictures": load.pictures.source,
        "rate": f"{rows[0].rate:.4g} requests/s",
        f"{CALLERS} callers at full tape": f"{capacity:.4g} answers/s",
        **{name: getattr(options, name) for name in shown},
    }
    return Report(
        title=f"{target.model} under {rows[0].rate:.3g} requests a second",
        subtitle=f"{options.arrivals} arrivals for {options.seconds:g} s at each cap; {load.pictures.source}.",
        slo_ms=options.slo_ms,
        curve=target.curve,
        thresholds=Thresholds(options.min_attainment, options.max_p99_ms, options.max_failed, options.min_agreement),
        settings=settings,
        rows=rows,
        runs=runs,
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got {text}; expected more than 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.open",
        description=(__doc__ or "").split(": ", 1)[1],
        epilog="Exit status: 0; 1 if a threshold was missed; 2 if nothing could be measured.",
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="address of the server (default: %(default)s)")
    add(OPTION, metavar="KEY", help=HELP)
    add("--model", help="model to call (default: the server's default)")
    add("--form", choices=FORMS, default=CLASSIFY, help="send image files to /v1/classify, or pixels to /v2")
    add("--rate", type=_positive, help="mean requests/s (default: that of the CSV, or 0.9 of what 8 callers get)")
    add("--seconds", type=_positive, default=15.0, help="seconds for each cap (default: %(default)g)")
    add("--max-tape", help=f"caps, such as 0,4,8,{FULL} (default: 0, a quarter, a half, all of the tape)")
    add("--arrivals", default=POISSON, help=f"{POISSON} (default), {STEP}, {BURST}, or a CSV with a column arrival_s")
    add("--photos", type=Path, help="folder with your own photos (default: crops of sample photos)")
    add("--pictures", type=int, default=256, help="most pictures to send, in turn (default: %(default)s)")
    add("--seed", type=int, default=7, help="seed of the random arrivals (default: %(default)s)")
    add("--slo-ms", type=_positive, default=100.0, help="answer time that counts as in time (default: %(default)g)")
    add(
        "--min-attainment", type=float, metavar="SHARE", help="threshold: smallest share answered in time, at every cap"
    )
    add("--max-p99-ms", type=float, metavar="MS", help="threshold: largest 99th percentile, at every cap")
    add("--max-failed", type=float, metavar="SHARE", help="threshold: largest share not answered, at every cap")
    add("--min-agreement", type=float, metavar="SHARE", help="threshold: smallest agreement with full tape")
    add("--report", type=Path, default=Path("runs/load"), help="folder for the report (default: %(default)s)")
    return parser


if __name__ == "__main__":
    exit_with(main)
