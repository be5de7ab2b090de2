"""`python -m loadtest.chaos`: run scripted faults against servers of its own, each with PASS or FAIL.

Exit status 1 if a promise was broken. The fake backend misbehaves as it is asked (`--fake-faults`); versions of a real
model are published whole and damaged.
"""

import argparse
import asyncio
import datetime as dt
import fnmatch
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

from loadtest.chaos.promises import Broken, Skipped
from loadtest.chaos.registry import Scenario, all_scenarios
from loadtest.chaos.servers import ScenarioServers
from loadtest.load import raise_file_limit
from loadtest.machine import describe
from loadtest.process import DEFAULT_SERVER


def main() -> int:
    """Play the scenarios and return the exit status."""
    options = _parse()
    chosen = [each for each in all_scenarios() if any(fnmatch.fnmatch(each.name, only) for only in options.only)]
    if options.list:
        print("\n".join(f"{each.name}  {each.statement}" for each in chosen))
        return 0
    if not chosen:
        raise SystemExit(f"--only; got {' '.join(options.only)}; expected a scenario or a pattern: see --list")
    raise_file_limit()
    rows = []
    for each in chosen:
        rows.append(_play(each, ScenarioServers(options.server, options.repository, options.family, options.triton)))
        print("  ".join(rows[-1]), flush=True)
    verdicts = Counter(verdict for verdict, *_ in rows)
    is_failed = bool(verdicts["FAIL"]) or not verdicts["PASS"]
    skipped = f", {verdicts['SKIP']} skipped" if verdicts["SKIP"] else ""
    summary = f"chaos: {'FAIL' if is_failed else 'PASS'}: {verdicts['PASS']} of {len(rows)} scenarios{skipped}"
    print(summary)
    if options.report is not None:
        _write(options.report, rows, summary)
    return int(is_failed)


def _play(each: Scenario, servers: ScenarioServers) -> tuple[str, str, str, str]:
    """Return the verdict, the name, the seconds and the figures or the reason."""
    started_s = time.monotonic()
    try:
        verdict, text = "PASS", asyncio.run(each.play(servers))
    except Skipped as reason:
        verdict, text = "SKIP", str(reason)
    except (Broken, OSError, EOFError, httpx.HTTPError, SystemExit, ExceptionGroup) as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        verdict, text = "FAIL", f"{type(cause).__name__}: {cause}"
    return verdict, each.name, f"{time.monotonic() - started_s:.1f} s", text


def _write(path: Path, rows: list[tuple[str, str, str, str]], summary: str) -> None:
    lines = [
        f"# Chaos of {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        f"`python -m loadtest.chaos` on {describe()}.",
        "",
        "| verdict | scenario | took | figures |",
        "|---|---|---|---|",
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
        prog="python -m loadtest.chaos", description=description.split(": ", 1)[1], epilog=epilog
    )
    add = parser.add_argument
    add("--only", nargs="+", default=["*"], metavar="PATTERN", help="only scenarios with such names")
    add("--server", default=DEFAULT_SERVER, metavar="COMMAND", help="what starts a server (default: this Python)")
    add("--repository", type=Path, default=Path("model_repository"), help="a model repository (default: %(default)s)")
    add("--family", default="adatape_cifar10", help="the family of real versions (default: %(default)s)")
    add("--triton", metavar="COMMAND", help="what starts a Triton; without it what needs one is skipped")
    add("--report", type=Path, metavar="FILE", help="write the report there")
    add("--list", action="store_true", help="list the scenarios and end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
