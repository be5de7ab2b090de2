"""A trained rounds model or plain network on disk: `weights.safetensors`, `config.json`, `train.json`. No pickle."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from adatape.checkpoint import CONFIG, TRAIN, WEIGHTS, load_weights, read_config, read_json, save_tensors, write_json
from adatape.rounds.config import RoundsConfig
from adatape.rounds.model import Classifier, RoundsModel
from adatape.rounds.plain import PlainConfig, PlainNet


@dataclass(frozen=True, slots=True)
class RoundsRun:
    """Where a checkpoint came from; `curve` holds one row of figures an epoch.

    Units: default_price in accuracy points for 100 MFLOPs; None for a model that reads once.
    """

    name: str
    command: str
    git_sha: str
    data: str
    data_digest: str
    class_names: tuple[str, ...]
    seed: int
    recipe: dict[str, Any]
    hardware: str
    teacher: str | None = None
    default_price: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


def build(config: RoundsConfig | PlainConfig) -> Classifier:
    """Return a new model with random weights from torch's global generator."""
    return RoundsModel(config) if isinstance(config, RoundsConfig) else PlainNet(config)


def is_rounds(run_dir: Path) -> bool:
    """Say whether a checkpoint is a rounds model's: its config has prefixes."""
    return (run_dir / CONFIG).is_file() and "prefixes" in read_json(run_dir / CONFIG)


def save_run(run_dir: Path, model: Classifier, run: RoundsRun) -> None:
    """Write the three files, each complete or not at all."""
    save_tensors(run_dir / WEIGHTS, dict(model.state_dict()))
    write_json(run_dir / CONFIG, model.config.to_dict())
    write_json(run_dir / TRAIN, asdict(run))


def load_run(run_dir: Path) -> tuple[Classifier, RoundsRun]:
    """Rebuild a rounds model or plain network, in evaluation mode, and say where it came from.

    Raises: ValueError naming the file that is missing or does not fit.
    """
    told = read_config(run_dir)
    model = build(RoundsConfig.from_dict(told) if "prefixes" in told else PlainConfig(**told))
    load_weights(run_dir, model)
    run = read_json(run_dir / TRAIN)
    return model.eval(), RoundsRun(**{**run, "class_names": tuple(run["class_names"])})
