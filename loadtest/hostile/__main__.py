"""`python -m loadtest.hostile`: send hostile messages to a server, and measure how long each blocks its event loop.

The command starts a server of its own, and sends each message several times, without a key and with one. Exit status 1
if the median of these tries blocks the event loop for more than 50 ms of processor time, or if the server ends.
"""

import argparse
import datetime as dt
import fnmatch
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from loadtest.hostile.http2 import Exchange
from loadtest.hostile.loop_delay import LoopDelay, LoopProbe
from loadtest.hostile.table import Message, MessageContext, all_messages
from loadtest.machine import describe
from loadtest.process import DEFAULT_SERVER, Server, start_server
from loadtest.tenants import make_tenants

MAX_DELAY_MS = 50.0
STRANGER, ADMIN = "stranger", "admin"
_PACKAGES = ("grpcio", "protobuf", "uvicorn", "uvloop", "httptools", "orjson")
_HEAD = ("surface", "message", "bytes", "sent by", "answer", "hold, ms", "worst try, ms", "loop's thread, ms")
_EXPLANATION = """\
For how long one message, sent to a server with `--require-auth`, blocked the event loop at most: the time between
two answers that the loop gives a probe, or the processor time that all threads of the server used meanwhile, whichever
is smaller (`loadtest/hostile/loop_delay.py`). Each message was sent {tries} times, by a stranger and by an admin: the
median of these tries is judged, and the worst is shown. The last column is the processor time of the loop's own thread.
The kernel counts the time of a thread that runs in steps of up to 4 ms: a beat without any message shows that much."""


@dataclass(frozen=True, slots=True)
class Result:
    """The delays that one message of one sender caused, one for each try."""

    message: Message
    sender: str
    num_bytes: int
    answer: str
    delays: list[LoopDelay]

    @property
    def delay_ms(self) -> float:
        return median(delay.ms for delay in self.delays)

    def cells(self) -> tuple[str, ...]:
        worst = max(delay.ms for delay in self.delays)
        of_loop = median(delay.of_loop_ms for delay in self.delays)
        figures = [f"{value:.1f}" for value in (self.delay_ms, worst, of_loop)]
        return self.message.surface, self.message.name, f"{self.num_bytes:,}", self.sender, self.answer, *figures


def main() -> int:
    """Send every message, print the table and return the exit status."""
    options = _parse()
    chosen = [row for row in all_messages() if any(fnmatch.fnmatch(f"{row.surface}: {row.name}", each)
                                                   for each in options.only)]  # fmt: skip
    if not chosen:
        raise SystemExit(f"--only; got {' '.join(options.only)}; expected a message or a pattern, such as '*empty*'")
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        tenants = make_tenants(options.server, Path(folder))
        arguments = ["--model-repository", str(options.repository), "--require-auth", *tenants.arguments()]
        with start_server(*arguments, *options.arguments, server=options.server) as server:
            contexts = {
                STRANGER: MessageContext(options.family),
                ADMIN: MessageContext(options.family, tenants.admin_key),
            }
            for result in _send_all(server, chosen, contexts, options.tries):
                results.append(result)
                print("  ".join(result.cells()), flush=True)
            has_ended = not server.is_running
    summary = _judge(results, has_ended=has_ended)
    print(summary)
    if options.report is not None:
        _write(options.report, results, summary, options)
    return int("FAIL" in summary)


def _send_all(
    server: Server, messages: list[Message], contexts: dict[str, MessageContext], tries: int
) -> Iterator[Result]:
    http, grpc = _address(urlsplit(server.url).netloc), _address(server.grpc)
    for message in messages:
        for sender, context in contexts.items():
            sent = message.make(context)
            address = grpc if isinstance(sent, Exchange) else http
            delays, answer = [], ""
            for _ in range(tries):
                with LoopProbe(http, server.pid) as probe:
                    answer = sent.run(address)
                delays.append(probe.delay)
            yield Result(message, sender, sent.num_bytes, answer, delays)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _judge(results: list[Result], *, has_ended: bool) -> str:
    over = [each for each in results if each.delay_ms > MAX_DELAY_MS]
    worst = max(results, key=lambda each: each.delay_ms)
    counts = f"{len(results) - len(over)} of {len(results)} below {MAX_DELAY_MS:g} ms"
    named = f"the longest {worst.delay_ms:.1f} ms: {worst.message.surface}, {worst.message.name}"
    return f"hostile: {'FAIL' if over or has_ended else 'PASS'}: {counts}, {named}{'; it ended' if has_ended else ''}"


def _version(package: str) -> str:
    """Return the version in this environment, which need not be the server's."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed here)"


def _write(path: Path, results: list[Result], summary: str, options: argparse.Namespace) -> None:
    sha = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    rows = [_HEAD, ("---",) * len(_HEAD), *(result.cells() for result in results)]
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    command = f"python -m loadtest.hostile --tries {options.tries}"
    lines = [
        f"# Hostile messages of {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        f"`{command}` on {describe()}, {kernel}, at commit {sha.strip() or 'unknown'}; {packages}; {options.family}.",
        "",
        *_EXPLANATION.format(tries=options.tries).splitlines(),
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        summary,
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def _parse() -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.hostile", description=description.split(": ", 1)[1], epilog=epilog
    )
    add = parser.add_argument
    add("--only", nargs="+", default=["*"], metavar="PATTERN", help="send only messages whose 'surface: name' matches")
    add("--tries", type=int, default=3, metavar="N", help="how many times to send each message (default: %(default)s)")
    add("--server", default=DEFAULT_SERVER, metavar="COMMAND", help="starts the server (default: this Python)")
    add("--repository", type=Path, default=Path("model_repository"), help="a model repository (default: %(default)s)")
    add("--family", default="adatape_cifar10", help="family to call (default: %(default)s)")
    add("--report", type=Path, metavar="FILE.md", help="write the report to FILE.md")
    add("arguments", nargs="*", help="more arguments for the server, after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
