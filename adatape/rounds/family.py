"""Train all of a comparison: `python -m adatape.rounds.family --data SOURCE --out runs`.

The teacher, its answers, the rounds model and its rivals, one after the other; on a GPU in minutes, on two cores in
hours. What is done is passed over and what was stopped goes on, so the command may be stopped and repeated.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from adatape.data import SOURCES
from adatape.rounds import teach, train
from adatape.rounds.plain import RIVALS

TEACHER, MODEL = "teacher", "cifar10"


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train until all is done or the time is up."""
    args = _parser().parse_args(argv)
    start_s = time.monotonic()
    common = ["--data", args.data, "--threads", str(args.threads)]
    overrides = [word for item in args.set for word in ("--set", item)]
    for name in [TEACHER, *(args.only or [MODEL, *RIVALS])]:
        left_s = args.max_s - (time.monotonic() - start_s) if args.max_s else 0.0
        if args.max_s and left_s <= 0:
            sys.exit("adatape.rounds.family: the time is up; the same command goes on")
        limits = ["--resume", "--max-s", f"{left_s:.0f}", *overrides]
        learns = [] if name == TEACHER else ["--teacher", str(args.out / TEACHER)]
        train.main(["--config", name, "--out", str(args.out / name), *common, *limits, *learns])
        if name == TEACHER:
            teach.main([str(args.out / TEACHER), *common, "--views", str(args.views)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adatape.rounds.family", description="Train a teacher, a rounds model and its rivals."
    )
    parser.add_argument("--data", required=True, help=SOURCES)
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs, one folder for each")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help=f"some of {', '.join([MODEL, *RIVALS])}; default: all"
    )
    parser.add_argument("--views", type=int, default=8, help="views of each image that the teacher answers")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    parser.add_argument("--max-s", type=float, default=0, help="stop after this many seconds; 0: no limit")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override recipe.* of every run"
    )
    return parser


if __name__ == "__main__":
    main()
