"""Compare the model with golden files of the official code: `python -m adatape.golden DIR`.

Every row of a golden file comes from running that input alone, so our rows must agree both
alone and stacked into one batch.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.config import ModelConfig
from adatape.flax_params import config_from_official, state_from_flax
from adatape.model import AdaTape
from adatape.reader import TapeRead
from adatape.transformer import Output

TOLERANCE = 1e-4
EXACT = ("n_updates", "input_mask", "topk_indices")
CLOSE = (
    "logits",
    "tape_tokens",
    "tape_tokens_raw",
    "ponder_loss",
    "ponder_loss_per_layer",
    "query_normed",
    "bank_normed",
    "block0_out",
    "encoder_out",
    "logits_masked_gap",
)
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error)
Arrays = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Report:
    """How one file compares: the largest error of each quantity, and which exact ones differ."""

    name: str
    errors: dict[str, float] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def error(self) -> float:
        return float("inf") if self.problem else max(self.errors.values(), default=float("inf"))

    @property
    def is_good(self) -> bool:
        return self.error <= TOLERANCE and not self.mismatches

    def __str__(self) -> str:
        verdict = f"{self.name}: {'ok' if self.is_good else 'FAIL'}"
        if self.problem:
            return f"{verdict}: {self.problem}"
        exact = f", differing {', '.join(self.mismatches)}" if self.mismatches else ""
        return f"{verdict}: {', '.join(f'{name} {error:.1e}' for name, error in self.errors.items())}{exact}"


def check_file(path: Path) -> Report:
    """Compare one golden file, its inputs stacked in one batch and each alone."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return compare(path.name, {key: archive[key] for key in archive.files})
    except UNREADABLE as error:
        return Report(path.name, problem=f"{type(error).__name__}: {' '.join(str(error).split())}")


def compare(name: str, golden: Arrays) -> Report:
    """Compare the arrays of one golden file.

    Raises: ValueError if the file lacks an input, an output or a parameter.
    """
    missing = [key for key in ("config_json", "inputs", "logits") if key not in golden]
    if missing:
        raise ValueError(f"golden file; got no {', '.join(missing)}; expected config, inputs and logits")
    model, clean = load_models(name, golden)
    inputs = torch.from_numpy(np.asarray(golden["inputs"], np.float32))
    report = Report(name)
    _merge(report, golden, _observe(model, clean, inputs), inputs)
    alone = [_observe(model, clean, row[None]) for row in inputs]
    _merge(report, golden, {key: torch.cat([row[key] for row in alone]) for key in alone[0]}, inputs)
    return report


def load_models(name: str, golden: Arrays) -> tuple[AdaTape, AdaTape | None]:
    """Return the file's model in compat mode, and without it where only the pooling then differs."""
    config = config_from_official(name, json.loads(str(golden["config_json"])))
    params = {key.removeprefix("params/"): golden[key] for key in golden if key.startswith("params/")}
    state = state_from_flax(params, config)
    clean = _loaded(replace(config, compat=False), state) if _can_be_clean(config) else None
    return _loaded(config, state), clean


def _loaded(config: ModelConfig, state: dict[str, Tensor]) -> AdaTape:
    model = AdaTape(config)
    model.load_state_dict(state)
    return model.eval()


def _can_be_clean(config: ModelConfig) -> bool:
    """Say whether no later query pools empty slots, and no entry is read twice."""
    tape = config.tape
    if tape is None:
        return False
    has_enough = config.bank_size >= tape.capacity * tape.reads_per_step
    return has_enough and (len(tape.layers) == 1 or tape.query == "token")


@torch.no_grad()
def _observe(model: AdaTape, clean: AdaTape | None, inputs: Tensor) -> dict[str, Tensor]:
    """Run the whole stack and return what the golden files name."""
    seen: dict[str, Tensor] = {}
    watched = {"block0_out": model.blocks[0], "encoder_out": model.norm}
    hooks = [
        module.register_forward_hook(lambda _module, _args, out, key=key: seen.update({key: out}))
        for key, module in watched.items()
    ]
    output: Output = model(inputs)
    for hook in hooks:
        hook.remove()
    assert output.mask_BL is not None, "This is a bug."
    masked = _masked_gap(model, seen["encoder_out"], output.mask_BL) if clean is None else clean(inputs).logits_BC
    return {
        **seen,
        **_observe_reads(output.reads),
        "logits": output.logits_BC,
        "ponder_loss": output.ponder_B,
        "input_mask": output.mask_BL,
        "logits_masked_gap": masked,
    }


def _observe_reads(reads: Sequence[TapeRead]) -> dict[str, Tensor]:
    names = {
        "tape_tokens": "tape_BND",
        "tape_tokens_raw": "raw_BND",
        "ponder_loss_per_layer": "ponder_B",
        "n_updates": "length_B",
        "query_normed": "query_BD",
        "bank_normed": "bank_BMD",
    }
    seen = {key: torch.stack([getattr(read, name) for read in reads], 1) for key, name in names.items()}
    return {**seen, "topk_indices": torch.stack([read.picks_BNK for read in reads], 1)}


def _masked_gap(model: AdaTape, encoded_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    kept_BL1 = mask_BL[..., None].to(encoded_BLD.dtype)
    logits_BC: Tensor = model.head((encoded_BLD * kept_BL1).sum(1) / kept_BL1.sum(1))
    return logits_BC


def _merge(report: Report, golden: Arrays, seen: Mapping[str, Tensor], inputs: Tensor) -> None:
    """Add what this run shows to the report.

    Raises: ValueError if a quantity has another shape.
    """
    for key in (*EXACT, *CLOSE):
        if key not in golden:
            continue
        ours, theirs = seen[key].numpy(), golden[key]
        if key == "topk_indices":
            ours, theirs = (_comparable_picks(picks, theirs.shape, inputs) for picks in (ours, theirs))
        if ours.shape != theirs.shape:
            raise ValueError(f"{key}; got {theirs.shape}; expected {ours.shape}")
        if key in CLOSE:
            error = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
            report.errors[key] = max(report.errors.get(key, 0.0), error if np.isfinite(error) else float("inf"))
        elif key not in report.mismatches and not np.array_equal(ours, theirs):
            report.mismatches.append(key)


def _comparable_picks(picks: NDArray[Any], shape: tuple[int, ...], inputs: Tensor) -> NDArray[Any]:
    """Lay picks out as the file does, and for parity name symbols: equal symbols tie, so any order is right."""
    picks = picks.reshape(shape) if picks.size == np.prod(shape) else picks
    if inputs.ndim != 3:
        return picks
    symbols_BM = inputs.argmax(-1).numpy()
    rows = symbols_BM[np.arange(len(picks)).reshape(-1, *[1] * (picks.ndim - 1)), picks]
    return np.where(picks < 0, -1, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare every file of a folder and return the exit status: 0 when all agree within the tolerance."""
    parser = argparse.ArgumentParser(prog="python -m adatape.golden", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with golden *.npz files")
    folder: Path = parser.parse_args(argv).folder
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        print(f"golden files; got none in {folder}; expected at least one *.npz", file=sys.stderr)
        return 1
    reports = []
    for path in paths:
        reports.append(check_file(path))
        print(reports[-1], flush=True)
    print(f"max error {max(report.error for report in reports):.3g} over {len(reports)} files")
    return 0 if all(report.is_good for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
