"""`python -m export runs/NAME --repository model_repository`: publish a trained run as a family."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError
from export.pipeline import Options, export_run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, export, and return the exit status."""
    arguments = vars(_parser().parse_args(argv))
    options = Options(**arguments)
    try:
        place = export_run(options)
    except ExportError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    print(f"dry run: {place} was not published" if options.is_dry_run else f"published {place}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description="Publish a trained run as a family.")
    parser.add_argument("run_dir", metavar="RUN", type=Path, help="run folder, for example runs/cifar10")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: model_repository")
    parser.add_argument("--family", help="name; default: adatape_RUN, and the precision if it is not fp32")
    buckets = parser.add_mutually_exclusive_group()
    buckets.add_argument("--num-buckets", type=int, default=5, help="number of trunks; default: 5")
    buckets.add_argument("--buckets", type=_numbers, help="tape capacities of the trunks, for example 0,4,8,16")
    parser.add_argument(
        "--capped-share",
        type=_share,
        default=0.5,
        help="expected share of requests with a cap, to choose buckets by; default: 0.5",
    )
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of the trunks; default: fp32"
    )
    parser.add_argument("--max-batch-size", type=_positive, default=64, help="samples of an execution; default: 64")
    parser.add_argument("--data", metavar="SOURCE", help="as for training, for the quality curve of fp16 and int8")
    parser.add_argument("--dry-run", dest="is_dry_run", action="store_true", help="do everything, but publish nothing")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
