"""One run of a study: trained from its last saved state, measured, and written as one result file.

A result is complete or absent, so a study that was stopped goes on where it was when the same command runs again.
"""

import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from adatape.checkpoint import read_json, write_json
from adatape.config import ModelConfig
from adatape.configs import Preset
from adatape.data import Dataset
from adatape.state import resume_from, save_state
from adatape.trainer import Trainer
from adatape.transformer import Transformer

ROW_STEPS = 100
"""Training steps that a row of the learning curve averages over."""
SETTLED_ROWS, SETTLED_ACCURACY = 5, 0.9995
"""A run ends early when the last rows of its learning curve are all as good as this: nothing is left to learn."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One run: `group` is the table it belongs to, `variant` its row, `data` where its samples come from."""

    study: str
    group: str
    variant: str
    seed: int
    data: str
    chosen: Preset
    build: Callable[[ModelConfig], Transformer]

    @property
    def key(self) -> str:
        """The name of its result file."""
        return f"{self.group}--{self.variant}--seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where saved states and results go."""

    states: Path
    results: Path

    def state_of(self, spec: Spec) -> Path:
        return self.states / spec.study / spec.key

    def result_of(self, spec: Spec) -> Path:
        return self.results / spec.study / f"{spec.key}.json"


Measure = Callable[[Spec, Transformer, Dataset], dict[str, Any]]


def run_all(
    specs: Iterable[Spec],
    open_data: Callable[[Spec], Dataset],
    measure: Measure,
    folders: Folders,
    *,
    save_every_s: float,
) -> None:
    """Do what is not yet done, in order."""
    missing = [spec for spec in specs if not folders.result_of(spec).exists()]
    for number, spec in enumerate(missing, 1):
        data = open_data(spec)
        trainer = Trainer(spec.chosen, data, spec.build, seed=spec.seed, device="cpu")
        rows = train(trainer, folders.state_of(spec), f"{number}/{len(missing)} {spec.key}", save_every_s=save_every_s)
        model = trainer.best_model().eval()
        torch.manual_seed(0)  # what a measurement draws is the same for every model
        write_result(folders.result_of(spec), spec, model, measure(spec, model, data), rows)


def train(trainer: Trainer[Transformer], folder: Path, label: str, *, save_every_s: float) -> list[dict[str, float]]:
    """Train to the end, or until it has settled, from the last saved state; return the learning curve.

    Its rows say how many CPU seconds it took so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = resume_from(folder, trainer.state)
    figures: list[dict[str, float]] = []
    started_s, saved_s = time.process_time() - (rows[-1]["cpu_s"] if rows else 0.0), time.monotonic()
    with tqdm(total=trainer.schedule.total_steps, initial=trainer.state.step, desc=label, mininterval=5) as bar:
        while not _has_ended(trainer, rows):
            figures.append(trainer.step())
            bar.update()
            if trainer.state.step % ROW_STEPS == 0 or trainer.is_done:
                rows.append({**_row(trainer.state.step, figures), "cpu_s": round(time.process_time() - started_s, 1)})
                figures = []
                bar.set_postfix(loss=f"{rows[-1]['loss']:.3f}", accuracy=f"{rows[-1]['accuracy']:.3f}")
                if time.monotonic() - saved_s > save_every_s or _has_ended(trainer, rows):
                    save_state(folder, trainer.state, rows)
                    saved_s = time.monotonic()
    return rows


def _has_ended(trainer: Trainer[Transformer], rows: list[dict[str, float]]) -> bool:
    return trainer.is_done or is_settled(rows)


def is_settled(rows: list[dict[str, float]]) -> bool:
    """Say whether a learning curve has reached its end before its training has."""
    last = rows[-SETTLED_ROWS:]
    return len(last) == SETTLED_ROWS and all(row["accuracy"] >= SETTLED_ACCURACY for row in last)


def _row(step: int, figures: list[dict[str, float]]) -> dict[str, float]:
    means = {name: sum(one[name] for one in figures) / len(figures) for name in ("loss", "accuracy", "tape")}
    return {"step": float(step), **{name: round(value, 4) for name, value in means.items()}}


def write_result(
    path: Path, spec: Spec, model: Transformer, figures: dict[str, Any], rows: list[dict[str, float]]
) -> None:
    """Write everything that a report needs of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "study": spec.study,
        "group": spec.group,
        "variant": spec.variant,
        "seed": spec.seed,
        "data": Path(spec.data).name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "figures": figures,
        "model": model.config.to_dict(),
        "recipe": asdict(spec.chosen.recipe),
        "steps": rows[-1]["step"],
        "train_cpu_s": rows[-1]["cpu_s"],
        "curve": rows,
        "origin": origin(),
    }
    write_json(path, result)


def origin() -> dict[str, str]:
    """Return what figures were made on: processor, threads and versions."""
    return {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results in a folder, by file name.

    Raises: ValueError naming a file that is not JSON.
    """
    return [read_json(path) for path in sorted(folder.glob("*.json"))]
