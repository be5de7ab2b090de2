"""The common parts of all commands: options, the family under test, a server and its load, and the exit status."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.cores import cores, cpu_s, pin_to, start_pinned
from benchmarks.inputs import Pictures, fake_pictures, load_pictures
from benchmarks.report import Report, finish
from loadtest.arrivals import Times
from loadtest.lean_http import Client
from loadtest.load import Closed, Outcomes, run_closed, run_open
from loadtest.process import ROOT, Server
from server.backends.fake import fake_manifest
from server.models.manifest import Manifest
from server.models.repository import Repository

T = TypeVar("T")
Options = argparse.Namespace
CONCURRENCY = 128
"""Callers that saturate the server: one full batch runs while the next one waits."""


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every command takes."""
    options = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    options.add_argument("--quick", action="store_true", help="under a minute: a smoke check, not a measurement")
    options.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")
    options.add_argument("--keep", action="store_true", help="also write a dated report under benchmarks/reports")
    return options


def add_family(options: argparse.ArgumentParser, family: str = "adatape_cifar10") -> None:
    """Add the options of commands that run a family."""
    options.add_argument("--family", default=family, help="the family to run (default: %(default)s)")
    options.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="model repository")
    options.add_argument("--data", type=Path, help=".npz with x_test, y_test; default: crops of sample photos")
    options.add_argument(
        "--cpu-time",
        action="store_true",
        help="rates a second of CPU time, not of the clock: for a machine that runs other work too",
    )
    options.add_argument("--fake", action="store_true", help="the fake backend, without weights: checks the command")


def run(work: Callable[[Options], Report], options: argparse.ArgumentParser, arguments: Sequence[str] | None) -> None:
    """Do a command's work from its arguments to its exit status."""
    parsed = options.parse_args(arguments)
    report = work(parsed)
    sys.exit(finish(report, json_path=parsed.json, is_kept=parsed.keep))


def print_progress(step: str) -> None:
    """Print the current step of a long command on standard error."""
    print(step, file=sys.stderr, flush=True)


class Bench:
    """A family, pictures for it, and where it is."""

    def __init__(self, options: Options, *, num_pictures: int) -> None:
        self.is_cpu_time: bool = options.cpu_time
        self.repository: Path | None = None if options.fake else options.repository
        self.manifest = fake_manifest() if options.fake else find_manifest(options.repository, options.family)
        load = fake_pictures if options.fake else None
        self.pictures: Pictures = (
            load(self.manifest, num_pictures) if load else load_pictures(self.manifest, num_pictures, options.data)
        )
        self.server_core, self.own_core = cores()
        pin_to(self.own_core)

    @property
    def model(self) -> str:
        return self.manifest.family

    def start_server(
        self, *arguments: str, repository: Path | None = None, module: str = "server"
    ) -> AbstractContextManager[Server]:
        """Start a server of the family, or of another repository, on the server's core."""
        return start_pinned(self.server_core, repository or self.repository, *arguments, module=module)

    def rate(
        self, server: Server, requests: Sequence[bytes], *, concurrency: int, seconds: float
    ) -> tuple[float, Closed]:
        """Saturate a server; return the requests answered a second, of the clock or of its CPU time, and the run."""
        before_s = cpu_s(server.pid)
        closed = closed_run(server.url, requests, concurrency=concurrency, seconds=seconds)
        spent_s = cpu_s(server.pid) - before_s
        return (closed.num_answered / spent_s if self.is_cpu_time else closed.rate), closed

    def describe(self) -> str:
        """Say what was asked about what."""
        is_shared = self.server_core == self.own_core
        places = "server and generator share the only core" if is_shared else "server on one core, generator on another"
        basis = " Rates are a second of CPU time: other work ran on the machine." if self.is_cpu_time else ""
        return (
            f"Family {self.model} ({self.manifest.precision}, buckets {self.manifest.buckets}); "
            f"{len(self.pictures.pixels_BHWC)} {self.pictures.source}; {places}.{basis}"
        )


def find_manifest(root: Path, family: str) -> Manifest:
    """Return a family's newest version.

    Raises: SystemExit if it is not there.
    """
    try:
        return Repository(root).get(family)
    except Exception as error:
        raise SystemExit(str(error)) from error


def in_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def closed_run(url: str, requests: Sequence[bytes], *, concurrency: int, seconds: float) -> Closed:
    """Saturate a server for some seconds.

    Raises: SystemExit if a request was not answered: a rate of errors is no figure.
    """

    async def main() -> Closed:
        client = Client(url)
        try:
            return await run_closed(client, requests, concurrency=concurrency, duration_s=seconds)
        finally:
            await client.close()

    result = in_loop(main())
    if result.num_failed:
        raise SystemExit(f"server; got {result.num_failed} requests not answered; expected every one to be")
    return result


def open_run(url: str, requests: Sequence[bytes], times: Times) -> Outcomes:
    """Send requests in turn at the given times, whatever has become of the others."""

    async def main() -> Outcomes:
        client = Client(url)
        try:
            return await run_open(client, lambda number: requests[number % len(requests)], times)
        finally:
            await client.close()

    return in_loop(main())
