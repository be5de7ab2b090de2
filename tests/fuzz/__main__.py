"""`python -m tests.fuzz`: fuzz a server's surfaces and its decoders, and end in a line that says PASS or FAIL.

A case passes if it is answered, or refused with a status that says so, in time: no 500, no hang, no growth.
"""

import argparse
import sys

from loadtest.process import start_server
from tests.fuzz.campaign import Campaign, verdict


def main() -> int:
    """Run the campaign and return the exit status."""
    options = _parse()
    arguments = ["--backend", options.backend, "--log-level", "info"]
    with start_server(*arguments) as server:
        campaign = Campaign(options.cases, options.seed, server)
        results = []
        for result in campaign.run():
            print(result.line(), flush=True)
            results.append(result)
        is_passed, lines = verdict(campaign, results)
    print("\n".join(lines))
    return int(not is_passed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--cases", type=int, default=100_000, help="in all, over all targets (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of every generator (default: %(default)s)")
    parser.add_argument(
        "--backend", choices=("ort", "fake"), default="ort", help="of the server (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
