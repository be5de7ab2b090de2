"""What the tape of the parity model holds: which tokens mix symbols, and how that tells an odd count.

Shape legend: B strings, L symbols, N tape slots, K reads a step.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.data import Split
from adatape.model import AdaTape
from adatape.reader import TapeRead
from adatape.transformer import to_inputs

SYMBOLS = ("-1", "0", "+1")


@torch.no_grad()
def read_strings(model: AdaTape, split: Split) -> TapeRead:
    """Read every string of a split, without a cap."""
    inputs = to_inputs(torch.from_numpy(split.x), model.config)
    return model.read(model.embed(inputs), None, model.build_bank(inputs), 0, None)


def mixed_tokens(symbols_BL: Tensor, picks_BNK: Tensor) -> tuple[Tensor, Tensor]:
    """Return which tokens merge different symbols, [B,N], and which symbols each token holds, [B,N,3]."""
    safe_BNK = picks_BNK.clamp(min=0)
    read_BNK = symbols_BL[:, None].expand(-1, picks_BNK.shape[1], -1).gather(2, safe_BNK)
    holds_BN3 = torch.stack([((read_BNK == s) & (picks_BNK >= 0)).any(2) for s in range(3)], 2)
    return holds_BN3.sum(2) > 1, holds_BN3


def mechanism_figures(model: AdaTape, split: Split) -> dict[str, Any]:
    """Return how mixed tokens go with odd counts, and what a mixed token weighs.

    For each symbol: how often a mixed token that holds it exists exactly when its count is odd, and how often the
    number of such tokens is odd exactly when its count is.
    """
    read, symbols_BL = read_strings(model, split), torch.from_numpy(split.x).long()
    mixed_BN, holds_BN3 = mixed_tokens(symbols_BL, read.picks_BNK)
    is_odd_B3 = torch.stack([(symbols_BL == s).sum(1) % 2 == 1 for s in range(3)], 1)
    num_mixed_B3 = (mixed_BN[..., None] & holds_BN3).sum(1)
    read_share_B = (read.picks_BNK >= 0).sum((1, 2)) / symbols_BL.shape[1]
    first_B = symbols_BL.gather(1, read.picks_BNK[:, 0, :1])[:, 0]
    return {
        "read_share": float(read_share_B.mean()),
        "all_read": float((read_share_B >= 1).float().mean()),
        "mixed_mean": float(mixed_BN.sum(1).float().mean()),
        "mixed_weight": float(read.weights_BNK[..., 0][mixed_BN].mean()) if bool(mixed_BN.any()) else None,
        "first_read": _shares(first_B.numpy()),
        "exists_when_odd": _agreement((num_mixed_B3 > 0) == is_odd_B3),
        "odd_when_odd": _agreement((num_mixed_B3 % 2 == 1) == is_odd_B3),
    }


def _agreement(agrees_B3: Tensor) -> dict[str, float]:
    return dict(zip(SYMBOLS, agrees_B3.float().mean(0).tolist(), strict=True))


def _shares(symbols_B: NDArray[np.int64]) -> dict[str, float]:
    return {name: float((symbols_B == symbol).mean()) for symbol, name in enumerate(SYMBOLS)}
