"""`python -m loadtest.soak`: send mixed traffic to a server for a long time, and account for every request.

The command starts a server of its own. The traffic has calls of every surface at random times, callers that leave, a
tenant whose quota is spent, bad input, and new versions of the model. At the end the client's log, the receipts, the
usage report and the server's counters must agree to the last FLOP, and memory, descriptors and threads must not grow.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from loadtest.process import DEFAULT_SERVER, start_server
from loadtest.repository import RepositoryCopy
from loadtest.soak.client_log import compare
from loadtest.soak.growth import fit
from loadtest.soak.report import to_document, to_lines, write
from loadtest.soak.run import Plan, read_usage, soak
from loadtest.tenants import make_tenants

COMPLAINTS = (" ERROR ", "Traceback")
"""What no line of the server's log may hold: nothing that is asked of it here is its own fault."""
MAX_COMPLAINTS = 5


def main() -> int:
    """Run the soak, write its report and return the exit status."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended by a signal"))  # and the server with it
    plan = Plan(
        options.duration,
        options.rate,
        options.reload_every,
        options.seed,
        options.record,
        tuple(options.arguments),
    )
    with tempfile.TemporaryDirectory() as folder:
        repository = RepositoryCopy(options.repository, options.family, Path(folder))
        tenants = make_tenants(options.server, Path(folder))
        arguments = ["--model-repository", folder, *tenants.arguments(), *options.arguments]
        with start_server(*arguments, server=options.server) as server:
            run = asyncio.run(soak(server, repository, tenants, plan))
            counts, usage = server.metrics(), read_usage(server, tenants.admin_key)
            growth = fit(run.times_s, run.looks, (run.resting, server.footprint()))
            complaints = [line.strip() for line in server.lines if any(mark in line for mark in COMPLAINTS)]
    sums = list(compare(run.log, counts, usage))
    faults = [*run.log.faults, *run.faults, *complaints[:MAX_COMPLAINTS], *growth.faults]
    faults += [f"{s.name}; got {s.counted:.0f}; expected {s.expected:.0f}" for s in sums if s.counted != s.expected]
    lines = to_lines(run, plan, options.family, sums, growth, faults)
    print("\n".join(lines))
    if options.report is not None:
        write(options.report, lines, to_document(run, plan, options.family, sums, growth, faults))
    return int(bool(faults))


def _parse() -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.soak", description=description.split(": ", 1)[1], epilog=epilog
    )
    add = parser.add_argument
    add("--duration", type=float, default=600.0, metavar="S", help="seconds of traffic (default: %(default)g)")
    add("--rate", type=float, default=30.0, metavar="N", help="calls a second, at random times (default: %(default)g)")
    add("--reload-every", type=float, default=10.0, metavar="S", help="load a version every S (default: %(default)g)")
    add("--server", default=DEFAULT_SERVER, metavar="COMMAND", help="starts the server (default: this Python)")
    add("--repository", type=Path, default=Path("model_repository"), help="a model repository (default: %(default)s)")
    add("--family", default="adatape_cifar10", help="family to call (default: %(default)s)")
    add("--seed", type=int, default=1, help="seed of the random traffic (default: %(default)s)")
    add("--record", type=Path, metavar="FILE", help="write what the server uses each second, as JSON lines")
    add("--report", type=Path, metavar="FILE.md", help="write the report to FILE.md, and its figures beside it as JSON")
    add("arguments", nargs="*", help="more arguments for the server, after --")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
