"""Ask a teacher about every view of the training images: `python -m adatape.rounds.teach RUN --data SOURCE`.

Writes `targets.safetensors` into the run's folder; `adatape.rounds.train --teacher RUN` learns from it. Stopped, it
goes on where it was.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from adatape.data import SOURCES, open_source
from adatape.rounds.checkpoint import load_run
from adatape.rounds.model import channels_last
from adatape.rounds.recipe import RoundsRecipe
from adatape.rounds.views import TARGETS, Views, ask_teacher, known_targets, save_targets


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and ask."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        teacher, run = load_run(args.run)
        share = float(run.recipe["validation_share"])
        data = open_source(args.data, image_size=teacher.config.image_size, validation_share=share)
        if data.digest != run.data_digest:
            raise ValueError(f"--data; got digest {data.digest[:12]}; expected {run.data_digest[:12]}, the teacher's")
        images_NHWC = torch.from_numpy(data.train.x).to(device)
        views = Views.of(images_NHWC, max_shift=args.max_shift, num_views=args.views)
        known = known_targets(args.run, views)
    except (ValueError, OSError) as error:
        sys.exit(f"adatape.rounds.teach: {error}")
    channels_last(teacher.to(device))
    for number in range(len(known), args.views):
        start_s = time.monotonic()
        known.append(ask_teacher(teacher, views, number))
        save_targets(args.run, torch.stack(known), views)
        print(f"view {number + 1} of {args.views}: {time.monotonic() - start_s:.0f} s", flush=True)
    print(f"wrote {args.run / TARGETS}")


def _parser() -> argparse.ArgumentParser:
    recipe = RoundsRecipe()
    parser = argparse.ArgumentParser(
        prog="python -m adatape.rounds.teach", description="Store a teacher's answers for every view."
    )
    parser.add_argument("run", type=Path, help="run folder of the teacher")
    parser.add_argument("--data", required=True, help=f"training data: {SOURCES}")
    parser.add_argument("--views", type=int, default=8, help="views of each image; the same number as recipe.num_views")
    parser.add_argument("--max-shift", type=int, default=recipe.max_shift, help="pixels; the same as recipe.max_shift")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads; default: all processors")
    return parser


if __name__ == "__main__":
    main()
