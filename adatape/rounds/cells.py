"""The bank's cells: how the pixels of one cell, and what the glance saw around it, become a tape token.

Shape legend: B batch, M cells of the bank, T cells picked, C channels, H height, W width, D dim.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adatape.rounds.config import RoundsConfig
from adatape.rounds.layers import ConvNorm

HALO = 2
"""Pixels around a cell that its first two convolutions need."""


class CellTokeniser(nn.Module):
    """Turns cells into tape tokens; a cell costs the same whether or not others are read.

    The first two convolutions see the cell's pixels; the others also see the glance's context map, around the cell
    too. `dense` tokenises a whole bank, `picked` only some cells: the same numbers.
    """

    def __init__(self, config: RoundsConfig) -> None:
        super().__init__()
        self.grid = config.grid
        one, two, three, four, five = config.cell_widths
        self.pixels = nn.Sequential(ConvNorm(3, one, padding=0), ConvNorm(one, two, padding=0, pool=True))
        self.mixed = ConvNorm(two, three, padding=0)
        self.deep = nn.Sequential(ConvNorm(three, four, pool=True), ConvNorm(four, five))
        self.out = nn.Linear(4 * five, config.dim)
        self.position = nn.Parameter(torch.randn(config.num_cells, config.dim) * 0.02)

    def dense(self, x_BCHW: Tensor, context_BCHW: Tensor) -> Tensor:
        """Return the tokens [B,M,D] of all cells; the pixels are convolved without a halo for each cell."""
        detail_BCHW = self.pixels(F.pad(x_BCHW, (HALO,) * 4))
        detail_NCHW = windows(detail_BCHW, detail_BCHW.shape[2] // self.grid, 0).flatten(0, 1)
        context_NCHW = self._context(context_BCHW).flatten(0, 1)
        return self._token(detail_NCHW, context_NCHW).view(len(x_BCHW), self.grid**2, -1) + self.position

    def picked(self, x_BCHW: Tensor, context_BCHW: Tensor, picks_BT: Tensor) -> Tensor:
        """Return the tokens [B,T,D] of picked cells, having computed nothing of the others."""
        crops_BMCHW = windows(x_BCHW, x_BCHW.shape[2] // self.grid, HALO)
        detail_NCHW = self.pixels(take(crops_BMCHW, picks_BT).flatten(0, 1))
        context_NCHW = take(self._context(context_BCHW), picks_BT).flatten(0, 1)
        return self._token(detail_NCHW, context_NCHW).view(*picks_BT.shape, -1) + self.position[picks_BT]

    def _context(self, context_BCHW: Tensor) -> Tensor:
        """Return each cell's part of the context, one pixel beyond it: [B,M,C,6,6] from [B,C,8,8]."""
        around_BMCHW = windows(context_BCHW, context_BCHW.shape[2] // self.grid, 1)
        return around_BMCHW.repeat_interleave(2, 3).repeat_interleave(2, 4)[..., 1:-1, 1:-1]

    def _token(self, detail_NCHW: Tensor, context_NCHW: Tensor) -> Tensor:
        x_NCHW = F.pad(detail_NCHW, (1, 1, 1, 1)) + context_NCHW
        y_NCHW = self.deep(self.mixed(x_NCHW.contiguous(memory_format=torch.channels_last)))
        token: Tensor = self.out(y_NCHW.flatten(1))
        return token


def windows(x_BCHW: Tensor, size: int, halo: int) -> Tensor:
    """Cut a map into square cells with `halo` pixels around each, zeros outside the map: [B,M,C,H,W]."""
    x_BCHW = F.pad(x_BCHW, (halo,) * 4) if halo else x_BCHW
    cut = x_BCHW.unfold(2, size + 2 * halo, size).unfold(3, size + 2 * halo, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def take(entries_BM: Tensor, picks_BT: Tensor) -> Tensor:
    """Return each sample's picked entries: [B,T,...] from [B,M,...]."""
    return entries_BM[torch.arange(len(picks_BT), device=picks_BT.device)[:, None], picks_BT]
