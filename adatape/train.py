"""Train a model: `python -m adatape.train --config NAME --data SOURCE --out runs/NAME`."""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm import tqdm

from adatape.checkpoint import RunInfo, init_from, save_checkpoint
from adatape.configs import PRESETS, Preset, Recipe, fit_to_size, preset
from adatape.data import SOURCES, Dataset, open_source
from adatape.model import AdaTape
from adatape.progress import RunLog
from adatape.state import resume_from, save_state
from adatape.trainer import Trainer, validate


def run(trainer: Trainer[AdaTape], out: Path, log: RunLog, info: RunInfo, *, save_every_s: float) -> None:
    """Train to the end, logging and saving on the way."""
    capacity = trainer.state.model.config.capacity
    caps = sorted({0, 1, capacity // 4, capacity // 2, capacity})
    saved_s = time.monotonic()
    with tqdm(total=trainer.schedule.total_steps, initial=trainer.state.step, unit="batch", mininterval=1) as bar:
        while not trainer.is_done:
            figures = trainer.step()
            log.batch(trainer.state.step, figures)
            bar.set_postfix(log.postfix(trainer.recipe.batch_size), refresh=False)
            bar.update()
            if trainer.state.step % trainer.steps_per_epoch == 0 or trainer.is_done:
                row = validate(trainer.best_model(), trainer.data.validation, caps, trainer.device)
                log.epoch(trainer.epochs_done, row)
                bar.write(log.epoch_line())
                save_checkpoint(out, trainer.best_model(), log.with_curve(info))
                saved_s = -math.inf
            if time.monotonic() - saved_s > save_every_s:
                save_state(out, trainer.state, log.rows)
                saved_s = time.monotonic()


def describe_run(out: Path, data: Dataset, recipe: Recipe, seed: int) -> RunInfo:
    """Gather what a reader of the checkpoint will want to know of its origin."""
    sha = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    arguments = [
        Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]
    ]  # a reader has another disk
    command = shlex.join(["python", "-m", "adatape.train", *arguments])
    hardware = (
        f"{torch.cuda.get_device_name()}" if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    )
    return RunInfo(
        out.name,
        command,
        sha or "unknown",
        data.name,
        data.digest,
        data.class_names,
        seed,
        recipe.epochs,
        asdict(recipe),
        hardware,
    )


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    try:
        _check_out(args.out, resume=args.resume)
        chosen, data = _chosen(args.config, dict(item.partition("=")[::2] for item in args.set), args.data)
        trainer = Trainer(chosen, data, AdaTape, seed=args.seed, device="cuda" if torch.cuda.is_available() else "cpu")
        if args.init:
            init_from(args.init, trainer.state.model)
        rows = resume_from(args.out, trainer.state) if args.resume else []
    except ValueError as error:
        sys.exit(f"adatape.train: {error}")
    print(plan(trainer))
    info = describe_run(args.out, data, chosen.recipe, args.seed)
    with RunLog(args.out, rows) as log:
        run(trainer, args.out, log, info, save_every_s=args.save_every_s)
    print(f"{args.out}: done, {log.epoch_line()}")
    print(f"next: python -m adatape.evaluate {shlex.quote(str(args.out))} --data {shlex.quote(args.data)}")


def _chosen(name: str, overrides: dict[str, str], source: str) -> tuple[Preset, Dataset]:
    """Return the preset with its overrides, fitted to the number of classes in the data."""
    values = {key: _value(text) for key, text in overrides.items()}
    chosen = preset(name, values)
    data = open_source(
        source,
        image_size=chosen.model.image_size,
        seq_len=chosen.model.seq_len,
        validation_share=chosen.recipe.validation_share,
    )
    fitted = preset(name, {**values, "model.num_classes": len(data.class_names)})
    if "recipe.batch_size" in values or "recipe.lr" in values:
        return fitted, data
    return replace(fitted, recipe=fit_to_size(fitted.recipe, len(data.train))), data


def plan(trainer: Trainer[AdaTape]) -> str:
    """Say what was found and what will be done, before it takes its time."""
    data, recipe, config = trainer.data, trainer.recipe, trainer.state.model.config
    splits = [(data.train, "training"), (data.validation, "validation"), (data.test, "test")]
    counts = ", ".join(f"{len(split)} for {name}" for split, name in splits if split is not None)
    return (
        f"{data.name}: {len(data.class_names)} classes ({_some(data.class_names)}); {counts}\n"
        f"{config.name}: {recipe.epochs:g} epochs of {trainer.steps_per_epoch} batches of "
        f"{min(recipe.batch_size, len(data.train))}, learning rate {recipe.lr:.2g}, on {trainer.device}"
    )


def _some(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _check_out(out: Path, *, resume: bool) -> None:
    if (out / "config.json").exists() and not resume:
        raise ValueError(f"--out; got {out}, which holds a run; expected a new folder, or --resume")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
    except OSError as error:
        raise ValueError(f"--out; got {out}: {error.strerror}; expected a folder that can be written") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adatape.train", description="Train an AdaTape model.")
    parser.add_argument("--config", required=True, help=f"recipe: one of {', '.join(PRESETS)}")
    parser.add_argument("--data", required=True, help=f"training data: {SOURCES}")
    parser.add_argument("--out", required=True, type=Path, help="folder for the run, for example runs/cifar10")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out that was stopped")
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="start from the weights of this checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random numbers; default: 0")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads; default: all processors")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change recipe.*, tape.* or model.*, for example recipe.epochs=5",
    )
    parser.add_argument("--save-every-s", type=float, default=120.0, help="seconds between saved states, for --resume")
    return parser


if __name__ == "__main__":
    main()
