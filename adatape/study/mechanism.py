"""What the tape of the parity model holds: which tokens mix symbols, and how that tells an odd count.

Shape legend: B strings, L symbols, N tape slots, K reads a step.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adatape.data import PAD, Split
from adatape.model import AdaTape
from adatape.reader import TapeRead, TapeReader, merge_weighted
from adatape.transformer import to_inputs

SYMBOLS = ("-1", "0", "+1")
ONE = 2
"""The stored symbol that is counted."""


@torch.no_grad()
def read_strings(model: AdaTape, split: Split) -> TapeRead:
    """Read every string of a split, without a cap."""
    inputs = to_inputs(torch.from_numpy(split.x), model.config)
    return model.read(model.embed(inputs), None, model.build_bank(inputs), 0, None)


def mixed_tokens(symbols_BL: Tensor, picks_BNK: Tensor) -> tuple[Tensor, Tensor]:
    """Return which tokens merge different symbols, [B,N], and which symbols each holds, [B,N,4]; blank is the last."""
    safe_BNK = picks_BNK.clamp(min=0)
    read_BNK = symbols_BL[:, None].expand(-1, picks_BNK.shape[1], -1).gather(2, safe_BNK)
    holds_BN4 = torch.stack([((read_BNK == s) & (picks_BNK >= 0)).any(2) for s in range(PAD + 1)], 2)
    return holds_BN4.sum(2) > 1, holds_BN4


def mechanism_figures(model: AdaTape, split: Split) -> dict[str, Any]:
    """Return how mixed tokens go with odd counts, and what a mixed token weighs.

    For each symbol: how often a mixed token that holds it exists exactly when its count is odd, and how often the
    number of such tokens is odd exactly when its count is. And where the answer is: what the tape tells, and what the
    model makes of a tape beside the main token of another string.
    """
    read, symbols_BL = read_strings(model, split), torch.from_numpy(split.x).long()
    mixed_BN, holds_BN4 = mixed_tokens(symbols_BL, read.picks_BNK)
    is_odd_B3 = torch.stack([(symbols_BL == s).sum(1) % 2 == 1 for s in range(PAD)], 1)
    num_mixed_B3 = (mixed_BN[..., None] & holds_BN4[..., :PAD]).sum(1)
    read_share_B = (read.picks_BNK >= 0).sum((1, 2)) / symbols_BL.shape[1]
    first_B = symbols_BL.gather(1, read.picks_BNK[:, 0, :1])[:, 0]
    reader = model.readers[0]
    assert isinstance(reader, TapeReader), "This is a bug."
    return {
        "read_share": float(read_share_B.mean()),
        "all_read": float((read_share_B >= 1).float().mean()),
        "mixed_mean": float(mixed_BN.sum(1).float().mean()),
        "mixed_weight": float(read.weights_BNK[..., 0][mixed_BN].mean()) if bool(mixed_BN.any()) else None,
        "first_read": _shares(first_B.numpy()),
        "exists_when_odd": _agreement((num_mixed_B3 > 0) == is_odd_B3),
        "odd_when_odd": _agreement((num_mixed_B3 % 2 == 1) == is_odd_B3),
        "tells": what_tells(symbols_BL, read, holds_BN4, is_merged=reader.merge is merge_weighted),
        "with_another_main_token": swapped_accuracy(model, split),
    }


def what_tells(symbols_BL: Tensor, read: TapeRead, holds_BN4: Tensor, *, is_merged: bool) -> dict[str, float]:
    """Return how often the best guess of the parity is right that knows one thing only.

    These are `length`, the tape's; and `tape`, how many of its tokens hold which symbols, for a tape has no order to
    the trunk. A token that is its best entry holds one symbol, whatever else was read with it.
    """
    is_used_BN = torch.arange(holds_BN4.shape[1]) < read.length_B[:, None]
    kind_BN = (holds_BN4 * torch.tensor([1, 2, 4, 8])).sum(2)
    if not is_merged:
        kind_BN = symbols_BL.gather(1, read.picks_BNK[..., 0].clamp(min=0))
    kinds_B16 = (F.one_hot(kind_BN, 16) * is_used_BN[..., None]).sum(1)
    is_odd_B = (symbols_BL == ONE).sum(1) % 2 == 1
    knowledge = {"length": read.length_B[:, None], "tape": kinds_B16}
    return {name: best_guess(known_BF, is_odd_B) for name, known_BF in knowledge.items()}


def best_guess(known_BF: Tensor, is_odd_B: Tensor) -> float:
    """Return the share that is right if, of all that look alike, the more frequent answer is given to all."""
    _, look_B = torch.unique(known_BF, dim=0, return_inverse=True)
    odd_G, all_G = (torch.bincount(look_B, weights=one.double()) for one in (is_odd_B, torch.ones_like(is_odd_B)))
    return float(torch.maximum(odd_G, all_G - odd_G).sum() / len(is_odd_B))


@torch.no_grad()
def swapped_accuracy(model: AdaTape, split: Split) -> float:
    """Return the accuracy when each string keeps its tape and meets the main tokens of another string."""
    inputs = to_inputs(torch.from_numpy(split.x), model.config)
    read, hidden_BSD = read_strings(model, split), model.embed(inputs)
    logits_BC = model.trunk(hidden_BSD.roll(1, 0), read.tape_BND, read.length_B)
    return float((logits_BC.argmax(1) == torch.from_numpy(split.y)).float().mean())


def _agreement(agrees_B3: Tensor) -> dict[str, float]:
    return dict(zip(SYMBOLS, agrees_B3.float().mean(0).tolist(), strict=True))


def _shares(symbols_B: NDArray[np.int64]) -> dict[str, float]:
    return {name: float((symbols_B == symbol).mean()) for symbol, name in enumerate(SYMBOLS)}
