"""The resumable state of a run: weights, averaged weights, optimiser moments and the step. No pickle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from adatape.checkpoint import read_json, save_tensors, write_json
from adatape.transformer import Transformer

M = TypeVar("M", bound=Transformer)
STATE, ROWS = "state.safetensors", "state.json"


@dataclass(slots=True)
class TrainState(Generic[M]):
    """Everything that training changes."""

    model: M
    optimizer: torch.optim.Optimizer
    averaged: AveragedModel | None
    step: int


def save_state(run_dir: Path, state: TrainState[M], rows: list[dict[str, float]]) -> None:
    """Write the state; the tensors carry the step, so the two files cannot disagree about it."""
    write_json(run_dir / ROWS, {"rows": rows})
    save_tensors(run_dir / STATE, {**_tensors(state), "step": torch.tensor(state.step)})


def resume_from(run_dir: Path, state: TrainState[M]) -> list[dict[str, float]]:
    """Load a saved state into `state`; return the epochs logged so far. Without a saved state, start anew.

    Raises: ValueError if the saved state is of another model or unreadable.
    """
    if not (run_dir / STATE).is_file():
        return []
    with safe_open(run_dir / STATE, framework="pt") as file:
        found = set(file.keys())
    saved = load_file(run_dir / STATE)
    _start_moments(state.optimizer)
    own = _tensors(state)
    if found != {*own, "step"} or any(own[name].shape != saved[name].shape for name in own):
        raise ValueError(f"{run_dir / STATE}; got the state of another model; expected that of this --config and --set")
    for name, tensor in own.items():
        tensor.copy_(saved[name])
    state.step = int(saved["step"])
    rows: list[dict[str, float]] = read_json(run_dir / ROWS)["rows"]
    return [row for row in rows if row["step"] <= state.step]


def _tensors(state: TrainState[M]) -> dict[str, Tensor]:
    tensors = {f"model.{name}": tensor.detach() for name, tensor in state.model.state_dict().items()}
    if state.averaged is not None:
        tensors |= {f"averaged.{name}": tensor.detach() for name, tensor in state.averaged.state_dict().items()}
    parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        tensors |= {f"moment.{index}.{name}": value for name, value in state.optimizer.state[parameter].items()}
    return tensors


def _start_moments(optimizer: torch.optim.Optimizer) -> None:
    """Make AdamW allocate its moments, which it otherwise does in its first step."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            moments = {
                name: torch.zeros_like(parameter, memory_format=torch.preserve_format)
                for name in ("exp_avg", "exp_avg_sq")
            }
            optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
