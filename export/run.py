"""A trained run, checked for all that export needs of it."""

from dataclasses import dataclass
from pathlib import Path

from adatape.checkpoint import RunInfo, load_checkpoint
from adatape.config import ModelConfig, TapeConfig
from adatape.curve import Curve, read_curve
from adatape.model import AdaTape
from export.errors import ExportError

CURVE = "curve.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A model that can be cut in two, where it came from, and its quality curve on validation data."""

    model: AdaTape
    tape: TapeConfig
    info: RunInfo
    curve: Curve

    @property
    def config(self) -> ModelConfig:
        return self.model.config


def open_run(run_dir: Path) -> Run:
    """Load a run folder.

    Raises: ExportError naming what is missing, damaged, or of a kind that cannot be exported.
    """
    if not run_dir.is_dir():
        raise ExportError.of("run folder", run_dir, "a folder that `python -m adatape.train --out` wrote")
    try:
        model, info = load_checkpoint(run_dir)
    except (ValueError, TypeError, KeyError) as error:
        raise ExportError(f"checkpoint; got {_one_line(error)}; expected a complete checkpoint") from error
    tape = require_two_halves(model.config)
    return Run(model, tape, info, _read_curve(run_dir, model.config))


def require_two_halves(config: ModelConfig) -> TapeConfig:
    """Return the tape of a model that splits into one reader and one trunk.

    Raises: ExportError naming the option that stands in the way.
    """
    if config.tape is None:
        raise ExportError.of("tape", "none", "a model that reads a tape")
    if len(config.tape.layers) != 1:
        raise ExportError.of(
            "tape.layers", config.tape.layers, "one layer: several cannot be split into reader and trunk"
        )
    if config.tape.halting_threshold is None:
        raise ExportError.of("tape.halting_threshold", "null (fixed length)", "a number: the tape must be adaptive")
    if config.compat:
        raise ExportError.of("compat", "true", "false: empty slots would count, and answers depend on the bucket")
    return config.tape


def _read_curve(run_dir: Path, config: ModelConfig) -> Curve:
    path = run_dir / CURVE
    if not path.is_file():
        raise ExportError.of(
            "quality curve", f"no {CURVE} in {run_dir}", f"`python -m adatape.evaluate {run_dir}` first"
        )
    try:
        curve = read_curve(path)
    except ValueError as error:
        raise ExportError(f"{CURVE}; got {_one_line(error)}; expected a quality curve") from error
    if len(curve.histogram) != config.capacity + 1 or sum(curve.histogram) == 0:
        counts = f"{len(curve.histogram)} counts of {sum(curve.histogram)} samples"
        raise ExportError.of(f"histogram of {CURVE}", counts, f"a count for each length from 0 to {config.capacity}")
    return curve


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
