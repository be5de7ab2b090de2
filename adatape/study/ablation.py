"""Parts of AdaTape taken away or replaced, one at a time.

Shape legend: B batch, M bank, K reads a step, D dim.
"""

import torch
from torch import Tensor, nn

from adatape.config import ModelConfig
from adatape.model import AdaTape
from adatape.reader import USED, TapeReader, pick_top


def choose_random(scores_BM: Tensor, used_BM: Tensor, k: int) -> Tensor:
    """Return k entries at random that were not read before; draws from torch's global generator."""
    return pick_top(torch.rand_like(scores_BM) - USED * used_BM, k)


def choose_first(_: Tensor, used_BM: Tensor, k: int) -> Tensor:
    """Return the first k entries that were not read before."""
    return pick_top(-used_BM, k)


def choose_again(scores_BM: Tensor, _: Tensor, k: int) -> Tensor:
    """Return the k best entries, whether they were read or not."""
    return pick_top(scores_BM, k)


def keep_first(_: Tensor, entries_BKD: Tensor) -> Tensor:
    """Return the best of a step's entries instead of their weighted sum."""
    return entries_BKD[:, 0]


ABLATIONS = {
    "random entries": ("choose", choose_random),
    "first entries": ("choose", choose_first),
    "no used mask": ("choose", choose_again),
    "no merge": ("merge", keep_first),
}


class Silence(nn.Module):
    """Nothing of what comes in; its gradient is zero, not absent, so the optimiser treats all weights alike."""

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD * 0


def build_ablated(config: ModelConfig, ablation: str) -> AdaTape:
    """Return an AdaTape whose readers do one thing differently, in training and in evaluation."""
    model = AdaTape(config)
    attribute, function = ABLATIONS[ablation]
    for reader in model.readers:
        assert isinstance(reader, TapeReader), "This is a bug."
        setattr(reader, attribute, function)
    return model


def build_blind(config: ModelConfig, ablation: str | None = None) -> AdaTape:
    """Return an AdaTape whose main tokens say nothing of the input, so that only its tape can; or one ablated as well.

    The positions and the class token remain, and the bank is as it was.
    """
    model = build_ablated(config, ablation) if ablation else AdaTape(config)
    model.embedding = nn.Sequential(model.embedding, Silence())
    return model
