"""`python -m loadtest.soak`: mixed traffic against a server of its own, with every request accounted for at the end.

Calls of every surface at random times, callers that leave, a tenant whose quota is spent, bad input and new versions
of the model, for as long as asked. Then the client's book, the receipts and the server's counters have to agree to the
last FLOP, and memory, descriptors and threads have to be flat.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loadtest.serving import DEFAULT_SERVER, Footprint, Served, Shelf, serving
from loadtest.soak.book import Book, compare
from loadtest.soak.traffic import Traffic
from loadtest.soak.watch import Growth, fit
from loadtest.tenants import Tenants, make_tenants

LOOK_S = 1.0
TELL_S = 60.0
RELOAD_S = 20.0
PATIENCE_S = 600.0
"""How long a reload may take on a machine that has other things to do."""
SETTLE_S = 2.0
"""How long the last callers that left may take to be noticed."""


@dataclass(slots=True)
class Run:
    """What one run saw."""

    book: Book
    times_s: list[float] = field(default_factory=list)
    looks: list[Footprint] = field(default_factory=list)
    num_reloads: int = 0
    reload_faults: list[str] = field(default_factory=list)
    helper_faults: list[str] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        """Return the time from the first look to the last."""
        return self.times_s[-1] - self.times_s[0]

    def standing(self) -> dict[str, int]:
        """Return where the run stands."""
        counts = {"calls": self.book.num_calls, "unexpected": self.book.num_unexpected, "reloads": self.num_reloads}
        return counts | asdict(self.looks[-1])


def main() -> int:
    """Run the soak, write its report and return the exit status."""
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(options.repository, options.family, Path(folder))
        tenants = make_tenants(options.server, Path(folder))
        arguments = ["--model-repository", folder, *tenants.arguments(), *options.arguments]
        with serving(*arguments, server=options.server) as served:
            run = asyncio.run(_soak(served, shelf, tenants, options))
            counts, usage = served.counts(), json.loads(served.get("/v1/usage", tenants.frugal_key))
            complaints = [line.strip() for line in served.lines if "Traceback" in line or "unexpected" in line]
    spent = sum(model["useful_flops"] for tenant in usage["tenants"] for model in tenant["models"])
    sums = [*compare(run.book, counts), ("useful FLOPs of the tenant with a quota", run.book.frugal_flops, spent)]
    growth = fit(run.times_s, run.looks)
    faults = [*run.book.faults, *run.reload_faults, *run.helper_faults, *complaints[:5], *growth.faults]
    faults += [f"{name}; client {mine:.0f}, server {theirs:.0f}" for name, mine, theirs in sums if mine != theirs]
    lines = _report(options, run, sums, growth, faults)
    print("\n".join(lines))
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return int(bool(faults))


async def _soak(served: Served, shelf: Shelf, tenants: Tenants, options: argparse.Namespace) -> Run:
    model = json.loads(served.get(f"/v1/models/{options.family}"))
    run = Run(Book(fickle_flops=model["min_flops"]))
    traffic = Traffic(served.url, served.grpc, model, run.book, options.seed, tenants.frugal_key)
    helpers = [
        asyncio.create_task(_look(served, run, options.record)),
        asyncio.create_task(_reload(served, shelf, tenants, run)),
        asyncio.create_task(_tell(run)),
    ]
    end_s = time.monotonic() + options.duration
    async with asyncio.TaskGroup() as calls:
        while time.monotonic() < end_s:
            calls.create_task(traffic.one())
            await asyncio.sleep(traffic.gap_s(options.rate))
    for helper in helpers:
        helper.cancel()
    for ended in await asyncio.gather(*helpers, return_exceptions=True):
        if not isinstance(ended, asyncio.CancelledError):
            run.helper_faults.append(f"a helper of the soak; got {ended!r}; expected it to last")
    await traffic.close()
    await asyncio.sleep(SETTLE_S)
    return run


async def _look(served: Served, run: Run, record: Path | None) -> None:
    """Look at the server again and again, and write down what is seen, for whoever wants to know how far it came."""
    with (record or Path(os.devnull)).open("w", encoding="utf-8", buffering=1) as log:
        while True:
            run.times_s.append(time.monotonic())
            run.looks.append(served.footprint())
            log.write(json.dumps({"at_s": round(run.lasted_s, 1), **run.standing()}) + "\n")
            await asyncio.sleep(LOOK_S)


async def _tell(run: Run) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        standing = " ".join(f"{name}={value}" for name, value in run.standing().items())
        print(
            f"soak: {run.lasted_s:.0f} s: {standing}", *run.book.faults, *run.reload_faults, file=sys.stderr, flush=True
        )


async def _reload(served: Served, shelf: Shelf, tenants: Tenants, run: Run) -> None:
    """Publish the next version and load it, again and again; the one before the last is taken away."""
    version = 1
    while True:
        await asyncio.sleep(RELOAD_S)
        version += 1
        shelf.publish(version)
        path = f"/v2/repository/models/{shelf.family}/load"
        status, told = await asyncio.to_thread(served.post, path, None, tenants.admin_key, PATIENCE_S)
        run.num_reloads += 1
        if status != 200:
            run.reload_faults.append(f"load of version {version}; got {status} {told}; expected 200")
        if version > 2:
            shelf.remove(version - 1)


def _report(
    options: argparse.Namespace, run: Run, sums: list[tuple[str, float, float]], growth: Growth, faults: list[str]
) -> list[str]:
    verdict = "FAIL" if faults else "PASS"
    book = run.book
    figures = (
        f"{book.num_calls} calls in {options.duration:g} s, {book.num_unexpected} unexpected answers, "
        f"{run.num_reloads} reloads, memory {growth.resident_bytes / 1e6:.1f} MB with a slope of "
        f"{growth.slope_bytes_per_h / 1e6:+.1f} MB/h, descriptors {growth.descriptors[0]:g} -> "
        f"{growth.descriptors[1]:g}, threads {growth.threads[0]:g} -> {growth.threads[1]:g}"
    )
    return [
        f"# Soak of {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        _origin(options),
        "",
        "| sum | client | server |",
        "|---|---|---|",
        *(f"| {name} | {mine:.0f} | {theirs:.0f} |" for name, mine, theirs in sums),
        "",
        "Calls that left are those whose caller hung up before the answer: some were answered all the same, the others",
        "are counted as cancelled, and together they are as many as left.",
        "",
        *(f"- {fault}" for fault in faults),
        f"soak: {verdict}: {figures}",
    ]


def _origin(options: argparse.Namespace) -> str:
    command = f"python -m loadtest.soak --duration {options.duration:g} --rate {options.rate:g} --seed {options.seed}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"`{command} --family {options.family}` on {machine}."


def _parse() -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak", description=description.split(": ", 1)[1], epilog=epilog
    )
    add = parser.add_argument
    add("--duration", type=float, default=600.0, metavar="S", help="of the traffic (default: %(default)g)")
    add("--rate", type=float, default=30.0, metavar="N", help="calls a second, at random times (default: %(default)g)")
    add("--server", default=DEFAULT_SERVER, metavar="COMMAND", help="what starts the server (default: this Python)")
    add("--repository", type=Path, default=Path("model_repository"), help="a model repository (default: %(default)s)")
    add("--family", default="adatape_cifar10", help="the family to ask (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the traffic (default: %(default)s)")
    add("--record", type=Path, metavar="FILE", help="write what each second's look saw there, a JSON object a line")
    add("--report", type=Path, metavar="FILE", help="write the report there")
    add("arguments", nargs="*", help="more arguments of the server, after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
