"""`python -m benchmarks.study_speed --data cifar10.npz`: how fast the image study's models answer, side by side.

One core, one thread, all models in turn and again, so that what slows the machine slows them alike. The states are
those that `python -m adatape.study images` left; the figures go where its report looks for them.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from adatape.checkpoint import read_json, write_json
from adatape.model import AdaTape
from adatape.state import STATE, resume_from
from adatape.study import images
from adatape.study.runs import Folders, Spec, origin
from adatape.trainer import Trainer
from benchmarks.cores import pin_to
from benchmarks.report import markdown_table
from benchmarks.study_graphs import Answer, compiled, eager
from server.records import Pixels

BATCHES = (1, 32)
NUM_IMAGES = 128
"""Different ones; they are asked about again until a measurement is over."""
ROUNDS, SECONDS = 5, 0.25
SEEDS = 3
MIN_ALIKE = 0.98
"""Of all images: a sample whose halting is a toss-up may halt elsewhere in another runtime."""
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Contestant:
    """One model, one way to run it."""

    variant: str
    seed: int
    runtime: str
    answer: Answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every model that has been trained, and write the figures."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    pin_to(options.core)
    folders = Folders(options.states, options.results)
    specs = list(trained(images.specs(options.data, SEEDS), folders))
    if not specs:
        raise SystemExit(f"benchmarks.study_speed: --states; got {options.states}; expected a trained image study")
    pixels = images.open_images(specs[0]).split("test").x[:NUM_IMAGES]
    with tempfile.TemporaryDirectory() as folder:
        several = [one for spec in specs for one in contestants(spec, folders, pixels, Path(folder))]
        if options.pause:
            input(f"{len(several)} ready; Enter starts the measurement: ")
        figures = measure(several, pixels, rounds=options.rounds, seconds=SECONDS)
    write_json(options.results / "speeds.json", {"origin": _origin(), "rounds": options.rounds, "models": figures})
    print(markdown_table([_row(figure) for figure in figures]))


def trained(specs: Iterable[Spec], folders: Folders) -> Iterator[Spec]:
    """Give each compared model once, with the first seed that has both a state and a result.

    What costs the same for every image need not be trained to be timed.
    """
    seen = set()
    for spec in specs:
        is_done = (folders.state_of(spec) / STATE).is_file() and folders.result_of(spec).is_file()
        is_ready = is_done or (spec.build is AdaTape and spec.chosen.model.tape is None)
        if spec.group == "models" and is_ready and spec.variant not in seen:
            seen.add(spec.variant)
            yield spec


def contestants(spec: Spec, folders: Folders, pixels: Pixels, folder: Path) -> list[Contestant]:
    """Return a model in torch and, where it can be, on onnxruntime.

    Raises: ValueError if the two answer differently.
    """
    trainer = Trainer(spec.chosen, images.open_images(spec), spec.build, seed=spec.seed, device="cpu")
    resume_from(folders.state_of(spec), trainer.state)
    model = trainer.best_model().eval()
    result = folders.result_of(spec)
    wanted = read_json(result)["figures"].get("tape_histogram", []) if result.is_file() else []
    in_torch, in_graphs = eager(model), compiled(model, wanted, folder / spec.key)
    found = [Contestant(spec.variant, spec.seed, "torch", in_torch)]
    if in_graphs is None:
        return found
    is_alike_B = (np.abs(in_torch(pixels) - in_graphs(pixels)) < TOLERANCE).all(1)
    if is_alike_B.mean() < MIN_ALIKE:
        expected = f"at least {MIN_ALIKE:.0%} as in torch"
        raise ValueError(f"answers of {spec.variant} on onnxruntime; got {is_alike_B.mean():.0%}; expected {expected}")
    return [*found, Contestant(spec.variant, spec.seed, "onnxruntime", in_graphs)]


def measure(several: Sequence[Contestant], pixels: Pixels, *, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return images a second of each, at each batch size: the median of all rounds, the slowest and the fastest."""
    rates: dict[tuple[int, int], list[float]] = {}
    for _ in range(rounds):
        for number, one in enumerate(several):
            for batch in BATCHES:
                rates.setdefault((number, batch), []).append(rate(one.answer, pixels, batch, seconds))
    return [
        {
            "variant": one.variant,
            "seed": one.seed,
            "runtime": one.runtime,
            "images_per_s": {
                str(batch): {
                    "median": median(rates[number, batch]),
                    "low": min(rates[number, batch]),
                    "high": max(rates[number, batch]),
                }
                for batch in BATCHES
            },
        }
        for number, one in enumerate(several)
    ]


def rate(answer: Answer, pixels: Pixels, batch: int, seconds: float) -> float:
    """Return images a second of the clock, over different images."""
    done, started_s = 0, time.perf_counter()
    while (spent_s := time.perf_counter() - started_s) < seconds:
        start = done % (len(pixels) - batch + 1)
        answer(pixels[start : start + batch])
        done += batch
    return done / spent_s


def _origin() -> dict[str, str]:
    return {**origin(), "onnxruntime": version("onnxruntime")}


def _row(figure: dict[str, Any]) -> dict[str, Any]:
    rates = {f"batch {batch}": round(one["median"]) for batch, one in figure["images_per_s"].items()}
    return {"model": figure["variant"], "runtime": figure["runtime"], **rates}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study_speed", description=__doc__)
    parser.add_argument("--data", required=True, metavar="SOURCE", help="what the study was trained on")
    parser.add_argument("--states", type=Path, default=Path("runs/study"), help="default: runs/study")
    parser.add_argument("--results", type=Path, default=Path("runs/study/results"), help="default: that of --states")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="measurements of each (default: %(default)s)")
    parser.add_argument("--pause", action="store_true", help="wait for Enter between preparing and measuring")
    parser.add_argument("--core", type=int, default=0, help="core to run on (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main()
