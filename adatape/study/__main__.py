"""Train and measure a study: `python -m adatape.study parity`, `… images --data SOURCE`, then `… report`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from adatape.study import images, parity
from adatape.study.report import write_report
from adatape.study.runs import Folders, Spec, run_all

SEEDS, IMAGE_SEEDS = 3, 2
"""Seeds of a whole study; an image run takes longer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a study and report it, or report what there is; return the exit status."""
    args = _parser().parse_args(argv)
    args.states = args.states or Path("runs/study-quick" if args.quick else "runs/study")
    args.results = args.results or args.states / "results"
    args.report = args.report or args.states / "report"
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    try:
        if args.study != "report":
            run(args)
        print(f"wrote {write_report(args.results, args.report, planned(quick=args.quick))} and its charts")
    except (ValueError, OSError) as error:
        print(f"adatape.study: {error}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    """Do the runs of a study that are asked for and not yet done."""
    is_parity = args.study == "parity"
    open_data = parity.open_strings if is_parity else images.open_images
    measure = parity.measure if is_parity else images.measure
    folders = Folders(args.states, args.results)
    run_all(_share(_specs(args), args), open_data, measure, folders, save_every_s=args.save_every_s)


def planned(*, quick: bool) -> list[Spec]:
    """Return all runs of both studies, whether they were asked for or not."""
    if quick:
        return [*parity.quick_specs(), *images.quick_specs()]
    return [*parity.specs(SEEDS), *images.specs("", IMAGE_SEEDS)]


def _specs(args: argparse.Namespace) -> list[Spec]:
    if args.study == "parity":
        return list(parity.quick_specs() if args.quick else parity.specs(args.seeds or SEEDS))
    if args.quick:
        return list(images.quick_specs())
    if args.data is None:
        raise ValueError("--data; got none; expected a source of 32 px images, for example a CIFAR-10 archive")
    return list(images.specs(args.data, args.seeds or IMAGE_SEEDS))


def _share(specs: list[Spec], args: argparse.Namespace) -> list[Spec]:
    """Return the runs that are asked for, and of these the share of this process."""
    wanted = [spec for spec in specs if args.only in spec.key]
    return wanted[args.part[0] - 1 :: args.part[1]]


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"part; got {text!r}; expected for example 1/2")
    return int(number), int(count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adatape.study", description="Reproduce what AdaTape claims.")
    parser.add_argument("study", choices=("parity", "images", "report"), help="study to run, or the report to write")
    parser.add_argument("--data", metavar="SOURCE", help="for images: as for training; --quick needs none")
    parser.add_argument("--quick", action="store_true", help="run a small study, for tests")
    parser.add_argument("--seeds", type=int, help=f"seeds of each run; default: {SEEDS}; for images {IMAGE_SEEDS}")
    parser.add_argument("--only", default="", metavar="TEXT", help="only runs whose name contains this text")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="run only part I of N parts")
    parser.add_argument("--states", type=Path, help="folder for saved states; default: runs/study, or runs/study-quick")
    parser.add_argument("--results", type=Path, help="folder for result files; default: results in --states")
    parser.add_argument("--report", type=Path, help="folder for the report and its charts; default: report in --states")
    parser.add_argument("--save-every-s", type=float, default=60.0, help="seconds between saved states")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    return parser


if __name__ == "__main__":
    sys.exit(main())
