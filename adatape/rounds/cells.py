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
        detail_NCHW = windows(detail_BCHW, self.grid, 0).flatten(0, 1)
        context_NCHW = _twice(windows(context_BCHW, self.grid, 1).flatten(0, 1))
        return self._token(detail_NCHW, context_NCHW).view(x_BCHW.shape[0], self.grid**2, -1) + self.position

    def picked(self, x_BCHW: Tensor, context_BCHW: Tensor, picks_BT: Tensor) -> Tensor:
        """Return the tokens [B,T,D] of picked cells, having computed nothing of the others."""
        detail_NCHW = self.pixels(crops(x_BCHW, picks_BT, self.grid, HALO))
        context_NCHW = _twice(crops(context_BCHW, picks_BT, self.grid, 1))
        return self._token(detail_NCHW, context_NCHW).view(*picks_BT.shape, -1) + self.position[picks_BT]

    def _token(self, detail_NCHW: Tensor, context_NCHW: Tensor) -> Tensor:
        x_NCHW = F.pad(detail_NCHW, (1, 1, 1, 1)) + context_NCHW
        y_NCHW = self.deep(self.mixed(x_NCHW.contiguous(memory_format=torch.channels_last)))
        token: Tensor = self.out(y_NCHW.flatten(1))
        return token


def windows(x_BCHW: Tensor, grid: int, halo: int) -> Tensor:
    """Cut a map into `grid` x `grid` cells with `halo` pixels around each, zeros outside the map: [B,M,C,H,W]."""
    size = x_BCHW.shape[2] // grid
    x_BCHW = F.pad(x_BCHW, (halo,) * 4) if halo else x_BCHW
    cut = x_BCHW.unfold(2, size + 2 * halo, size).unfold(3, size + 2 * halo, size)
    return cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def crops(x_BCHW: Tensor, picks_BT: Tensor, grid: int, halo: int) -> Tensor:
    """Return the picked windows alone, those of one sample after the other: [B * T,C,H,W]."""
    batch, channels, height, _ = x_BCHW.shape
    size, width = height // grid + 2 * halo, height + 2 * halo
    places = torch.arange(width * width, device=x_BCHW.device).view(1, 1, width, width)
    table_MHW = windows(places[..., halo : width - halo, halo : width - halo], grid, 0)[0, :, 0, :1, :1]
    table_MHW = table_MHW - (width + 1) * halo + places[0, 0, :size, :size]
    firsts_B = torch.arange(batch, device=x_BCHW.device) * width * width
    index_BTHW = table_MHW[picks_BT] + firsts_B[:, None, None, None]
    pixels_NC = F.pad(x_BCHW, (halo,) * 4).permute(0, 2, 3, 1).reshape(-1, channels)
    return pixels_NC[index_BTHW].flatten(0, 1).permute(0, 3, 1, 2)


def _twice(context_NCHW: Tensor) -> Tensor:
    """Bring a cell's context, one pixel around it, to twice the resolution, half of that pixel around it."""
    return context_NCHW.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., 1:-1, 1:-1]


def take(entries_BM: Tensor, picks_BT: Tensor) -> Tensor:
    """Return each sample's picked entries: [B,T,...] from [B,M,...]."""
    return entries_BM[torch.arange(picks_BT.shape[0], device=picks_BT.device)[:, None], picks_BT]
