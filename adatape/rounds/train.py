"""Train a rounds model, its teacher or a rival: `python -m adatape.rounds.train --config NAME --data SOURCE --out RUN`.

At the end of a rounds model's run its worth is fitted on the validation images, and its own price chosen.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from adatape.data import SOURCES, open_source
from adatape.rounds.checkpoint import RoundsRun, save_run
from adatape.rounds.configs import PRESETS, preset
from adatape.rounds.evaluate import measured
from adatape.rounds.model import Classifier, RoundsModel
from adatape.rounds.trainer import WINDOW, Trainer, accuracy_by_prefix, predict
from adatape.rounds.worth import cross_fit

Rows = list[dict[str, float]]


def run(trainer: Trainer, out: Path, rows: Rows, *, save_every_s: float, until_s: float) -> None:
    """Train until the end or the time is up, logging and saving on the way."""
    start_s, start_step, recent = time.monotonic(), trainer.step_number, Rows()
    saved_s = start_s
    while not trainer.is_done and time.monotonic() < until_s:
        recent = [*recent[1 - WINDOW :], trainer.step()]
        if trainer.step_number % WINDOW == 0:
            rate = (trainer.step_number - start_step) * trainer.recipe.batch_size / (time.monotonic() - start_s)
            shown = "  ".join(f"{name} {value:.3f}" for name, value in _means(recent).items())
            print(f"step {trainer.step_number} of {trainer.total_steps}  {shown}  {rate:.0f} images/s", flush=True)
        if trainer.step_number % trainer.steps_per_epoch == 0 or trainer.is_done:
            rows.append(_epoch(trainer, recent))
            print("  ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()), flush=True)
            saved_s = -math.inf
        if time.monotonic() - saved_s > save_every_s:
            trainer.save(out, rows)
            saved_s = time.monotonic()
    trainer.save(out, rows)


def _epoch(trainer: Trainer, recent: Rows) -> dict[str, float]:
    split = trainer.data.validation
    right_P = accuracy_by_prefix(predict(trainer.best_model, split, trainer.device), torch.from_numpy(split.y))
    accuracy = {f"accuracy{index}": round(float(value), 4) for index, value in enumerate(right_P)}
    epochs = trainer.step_number / trainer.steps_per_epoch
    return {"step": trainer.step_number, "epoch": round(epochs, 3), **_means(recent), **accuracy}


def _means(recent: Rows) -> dict[str, float]:
    return {name: round(sum(row[name] for row in recent) / len(recent), 4) for name in recent[-1]}


def fit_worth(model: Classifier, trainer: Trainer) -> float | None:
    """Fit a rounds model's worth on the validation images; return the price it shall have."""
    if not isinstance(model, RoundsModel):
        return None
    split = trainer.data.validation
    logits_NPC = predict(model, split, trainer.device)
    fitted = cross_fit(logits_NPC, torch.from_numpy(split.y))
    model.worth.load_state_dict(fitted.head.state_dict())
    return measured(model, logits_NPC, split.y, fitted.estimates).default_price()


def describe(args: argparse.Namespace, trainer: Trainer, rows: Rows, price: float | None) -> RoundsRun:
    """Gather what a reader of the checkpoint will want to know of its origin."""
    sha = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    hardware = torch.cuda.get_device_name() if trainer.device == "cuda" else f"CPU, {args.threads} threads"
    overrides = "".join(f" --set {item}" for item in args.set)
    return RoundsRun(
        name=args.out.name,
        command=f"python -m adatape.rounds.train --config {args.config} --data {Path(args.data).name}{overrides}",
        git_sha=sha or "unknown",
        data=trainer.data.name,
        data_digest=trainer.data.digest,
        class_names=trainer.data.class_names,
        seed=args.seed,
        recipe=asdict(trainer.recipe),
        hardware=f"{hardware}, {trainer.precision}",
        teacher=args.teacher.name if args.teacher else None,
        default_price=price,
        curve=rows,
    )


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    try:
        config, recipe = preset(args.config, dict(item.partition("=")[::2] for item in args.set))
        data = open_source(args.data, image_size=config.image_size, validation_share=recipe.validation_share)
        config = replace(config, num_classes=len(data.class_names))
        args.out.mkdir(parents=True, exist_ok=True)
        trainer = Trainer(config, recipe, data, seed=args.seed, teacher=args.teacher)
        rows = trainer.resume(args.out) if args.resume else []
    except (ValueError, OSError) as error:
        sys.exit(f"adatape.rounds.train: {error}")
    left = f"{trainer.total_steps - trainer.step_number} of {trainer.total_steps} steps of {recipe.batch_size}"
    print(f"{config.name}: {left} to go, in {trainer.precision}", flush=True)
    until_s = time.monotonic() + args.max_s if args.max_s else math.inf
    run(trainer, args.out, rows, save_every_s=args.save_every_s, until_s=until_s)
    price = fit_worth(trainer.best_model, trainer)
    save_run(args.out, trainer.best_model, describe(args, trainer, rows, price))
    print(f"{args.out}: {'done' if trainer.is_done else 'stopped; --resume goes on'}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adatape.rounds.train", description="Train a rounds model, its teacher or a baseline."
    )
    parser.add_argument("--config", required=True, help=f"recipe: one of {', '.join(PRESETS)}")
    parser.add_argument("--data", required=True, help=f"training data: {SOURCES}")
    parser.add_argument("--out", required=True, type=Path, help="folder for the run, for example runs/rounds")
    parser.add_argument("--teacher", type=Path, help="folder with the answers of a teacher, from adatape.rounds.teach")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out that was stopped")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers; default: 0")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads; default: all processors")
    parser.add_argument("--max-s", type=float, default=0, help="stop after this many seconds; 0: no limit")
    parser.add_argument("--save-every-s", type=float, default=120.0, help="seconds between saved states, for --resume")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change recipe.* or model.*, with a JSON value"
    )
    return parser


if __name__ == "__main__":
    main()
