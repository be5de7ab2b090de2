"""A trained model on disk: `weights.safetensors`, `config.json` and `train.json`. No pickle."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adatape.config import ModelConfig
from adatape.model import AdaTape

WEIGHTS, CONFIG, TRAIN = "weights.safetensors", "config.json", "train.json"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Where a checkpoint came from; `curve` holds one row of validation figures an epoch."""

    name: str
    command: str
    git_sha: str
    data: str
    data_digest: str
    class_names: tuple[str, ...]
    seed: int
    epochs: float
    recipe: dict[str, Any]
    hardware: str = ""
    curve: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(run_dir: Path, model: AdaTape, info: RunInfo) -> None:
    """Write the three files, each complete or not at all."""
    run_dir.mkdir(parents=True, exist_ok=True)
    save_tensors(run_dir / WEIGHTS, dict(model.state_dict()))
    write_json(run_dir / CONFIG, model.config.to_dict())
    write_json(run_dir / TRAIN, asdict(info))


def load_checkpoint(run_dir: Path) -> tuple[AdaTape, RunInfo]:
    """Rebuild a model, in evaluation mode, and say where it came from.

    Raises: ValueError naming the file that is missing or does not fit.
    """
    model = AdaTape(ModelConfig.from_dict(read_config(run_dir)))
    load_weights(run_dir, model)
    info = read_json(run_dir / TRAIN)
    return model.eval(), RunInfo(**{**info, "class_names": tuple(info["class_names"])})


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the config of a checkpoint that has all its files.

    Raises: ValueError naming what is missing.
    """
    missing = [name for name in (WEIGHTS, CONFIG, TRAIN) if not (run_dir / name).is_file()]
    if missing:
        raise ValueError(f"checkpoint {run_dir}; got no {', '.join(missing)}; expected {WEIGHTS}, {CONFIG} and {TRAIN}")
    return read_json(run_dir / CONFIG)


def load_weights(run_dir: Path, model: nn.Module) -> None:
    """Give a model its checkpoint's weights.

    Raises: ValueError if they do not fit.
    """
    try:
        model.load_state_dict(load_file(run_dir / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{run_dir / WEIGHTS}; got {error}; expected the tensors of {CONFIG}'s model") from error


def init_from(run_dir: Path, model: AdaTape) -> None:
    """Give `model` a checkpoint's weights. A head for another number of classes keeps its own.

    Raises: ValueError if there is no checkpoint, or its tensors do not fit.
    """
    weights = load_checkpoint(run_dir)[0].state_dict()
    own = model.state_dict()
    kept = {name for name, tensor in own.items() if name.startswith("head.") and _shape(weights, name) != tensor.shape}
    unfit = sorted(name for name in {*own, *weights} - kept if _shape(weights, name) != _shape(own, name))
    if unfit:
        name = unfit[0]
        got = f"{name} of shape {_shape(weights, name)}" + (f", and {len(unfit) - 1} others" if len(unfit) > 1 else "")
        raise ValueError(f"--init {run_dir}; got {got}; expected {_shape(own, name)}, as --config and --set have it")
    model.load_state_dict({name: (own if name in kept else weights)[name] for name in own})


def _shape(tensors: dict[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a safetensors file atomically."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, partial)
    partial.replace(path)


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically, readable by people."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises: ValueError naming the file if it is not JSON.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}; got {error}; expected JSON") from error
    return data
