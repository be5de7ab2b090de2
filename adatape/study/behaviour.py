"""What an image AdaTape reads: where in the bank, and how much for which image.

Shape legend: B images, M bank entries, N tape slots, K reads a step.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.data import Split
from adatape.loss import classification_loss
from adatape.model import AdaTape
from adatape.transformer import to_inputs

BATCH_SIZE = 400
NUM_EXTREMES = 10
NUM_RESAMPLES = 1000


@torch.no_grad()
def behaviour_figures(model: AdaTape, split: Split) -> dict[str, Any]:
    """Return where the bank is read, and how the tape length wanted goes with loss, correctness and class."""
    parts = [_judge(model, split, start) for start in range(0, len(split), BATCH_SIZE)]
    counts_BM, wanted_B, loss_B, correct_B = (np.concatenate(column) for column in zip(*parts, strict=True))
    figures = {
        "wanted_when_right": _mean(wanted_B[correct_B]),
        "wanted_when_wrong": _mean(wanted_B[~correct_B]),
        "wanted_loss_correlation": correlation(wanted_B, loss_B),
        "wanted_by_class": [_mean(wanted_B[split.y == label]) for label in range(model.config.num_classes)],
        "shortest": np.argsort(wanted_B, kind="stable")[:NUM_EXTREMES].tolist(),
        "longest": np.argsort(-wanted_B, kind="stable")[:NUM_EXTREMES].tolist(),
    }
    side = math.isqrt(model.config.bank_size)
    if model.config.tape is None or model.config.tape.bank != "input" or side**2 != model.config.bank_size:
        return figures
    ratio, low, high = centre_ratio(counts_BM.reshape(-1, side, side))
    reads = counts_BM.mean(0).reshape(side, side)
    return {**figures, "reads_by_entry": reads.round(4).tolist(), "centre_ratio": [ratio, low, high]}


def _judge(model: AdaTape, split: Split, start: int) -> tuple[NDArray[Any], ...]:
    x, y_B = (torch.from_numpy(part[start : start + BATCH_SIZE]) for part in (split.x, split.y))
    output = model(to_inputs(x, model.config))
    read = output.reads[-1]
    loss_B = classification_loss(output.logits_BC, y_B)
    counts_BM = entry_counts(read.picks_BNK, model.config.bank_size)
    correct_B = output.logits_BC.argmax(1) == y_B
    return counts_BM.numpy(), read.wanted_B.numpy(), loss_B.numpy(), correct_B.numpy()


def entry_counts(picks_BNK: Tensor, bank_size: int) -> Tensor:
    """Return how often each image read each bank entry, [B,M]; picks of -1 were not read."""
    picks_BR = picks_BNK.flatten(1)
    counts_BM = torch.zeros(len(picks_BR), bank_size)
    return counts_BM.scatter_add(1, picks_BR.clamp(min=0), (picks_BR >= 0).float())


def centre_ratio(counts_BPP: NDArray[Any]) -> tuple[float, float, float]:
    """Return reads of a central entry over reads of a border entry, with its 95 % bootstrap interval over images.

    The centre is the middle half of the rows and columns, the border the outermost ring.
    """
    side = counts_BPP.shape[1]
    inner = slice(side // 4, side - side // 4)
    centre_B = counts_BPP[:, inner, inner].mean((1, 2))
    border_B = (counts_BPP.sum((1, 2)) - counts_BPP[:, 1:-1, 1:-1].sum((1, 2))) / (4 * side - 4)
    draws = np.random.default_rng(0).integers(0, len(centre_B), (NUM_RESAMPLES, len(centre_B)))
    ratios = centre_B[draws].mean(1) / np.maximum(border_B[draws].mean(1), 1e-9)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(centre_B.mean() / max(border_B.mean(), 1e-9)), float(low), float(high)


def correlation(a_B: NDArray[Any], b_B: NDArray[Any]) -> list[float] | None:
    """Return Pearson's correlation with its 95 % interval (Fisher); None where one of them does not vary."""
    if a_B.std() == 0 or b_B.std() == 0:
        return None
    r = float(np.corrcoef(a_B, b_B)[0, 1])
    half = 1.96 / math.sqrt(len(a_B) - 3)
    return [r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)]


def _mean(values: NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
