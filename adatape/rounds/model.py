"""The rounds model: a glance that everyone pays, and a tape that grows by prefixes, each with an answer of its own.

    image -> glance -> answer 0 -> round 1: tokens of the best cells -> answer 1 -> round 2 ... -> answer R

Tokens look at their own round and earlier ones, never at later ones, so an answer does not change with what is read
after it. In training one pass yields all answers; `start` and `read` compute the same answers one round at a time.
Shape legend: B batch, M cells of the bank, T cells of a round, L tokens, P prefixes, C classes or channels, D dim.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adatape.layers import layer_norm
from adatape.rounds.cells import CellTokeniser, take
from adatape.rounds.config import ClassifierConfig, RoundsConfig
from adatape.rounds.layers import ConvNorm, RoundBlock
from adatape.rounds.worth import WorthHead
from adatape.transformer import scale_pixels

Layers = TypeVar("Layers", bound=nn.Module)

KEY_DIM = 64
NUM_GLANCE = 4
"""Tokens that the glance puts into the sequence: quarters of the image."""


@dataclass(slots=True)
class Glance:
    """What everyone pays for.

    Shapes: logits_BC; tokens_BLD, the quarters; context_BCHW, a map that cells see; score_BM, the loss that reading
    each cell is expected to save; order_BM, the cells from the best score down.
    """

    logits_BC: Tensor
    tokens_BLD: Tensor
    context_BCHW: Tensor
    score_BM: Tensor
    order_BM: Tensor


@dataclass(slots=True)
class Answers:
    """What a training pass yields.

    Shapes: logits_BPC, one answer a prefix; rival_BC, the answer after another first round, and saved_B, by how much
    its loss was expected to be larger than that of the first round; both None for a model that reads once.
    """

    logits_BPC: Tensor
    rival_BC: Tensor | None = None
    saved_B: Tensor | None = None


class Classifier(nn.Module):
    """What one trainer trains: a model that answers at each prefix of its config."""

    config: ClassifierConfig

    def forward(self, x_BCHW: Tensor) -> Answers:
        """Answer at all prefixes; pixels in [-1,1]."""
        raise NotImplementedError


class RoundsModel(Classifier):
    """A glance, cells to read, and a trunk; see the module."""

    config: RoundsConfig

    def __init__(self, config: RoundsConfig) -> None:
        super().__init__()
        self.config = config
        one, two, three, four, five = config.glance_widths
        self.stem = ConvNorm(3, one, kernel=4, stride=2)
        self.fine = nn.Sequential(ConvNorm(one, two, pool=True), ConvNorm(two, three))
        self.coarse = nn.Sequential(nn.MaxPool2d(2), ConvNorm(three, four), ConvNorm(four, five))
        self.glance_head = nn.Linear(2 * five, config.num_classes)
        self.context = nn.ModuleList(nn.Conv2d(width, config.cell_widths[1], 1) for width in (three, five))
        self.glance_token = nn.Linear(five, config.dim)
        self.glance_position = nn.Parameter(torch.randn(NUM_GLANCE, config.dim) * 0.02)
        self.query, self.key = nn.Linear(2 * five, KEY_DIM), nn.Linear(five, KEY_DIM)
        self.key_position = nn.Parameter(torch.randn(config.num_cells, KEY_DIM) * 0.02)
        self.cells = CellTokeniser(config)
        self.readout = nn.Parameter(torch.randn(len(config.sizes), config.dim) * 0.02)
        sizes = (config.dim, config.num_heads, config.mlp_dim, config.tape_ffn_dim)
        self.blocks = nn.ModuleList(RoundBlock(*sizes) for _ in range(config.depth))
        self.norm = layer_norm(config.dim)
        self.head = nn.Linear(config.dim, config.num_classes)
        self.groups: Tensor
        self.register_buffer("groups", _groups(config), persistent=False)
        self.worth = WorthHead(len(config.prefixes), config.num_classes).requires_grad_(False)  # fitted after training

    def glance(self, x_BCHW: Tensor) -> Glance:
        """Look at the whole image coarsely; answer, and say what each cell is worth reading."""
        fine_BCHW = self.fine(self.stem(x_BCHW))
        coarse_BCHW = self.coarse(fine_BCHW)
        near, far = self.context
        context_BCHW = near(fine_BCHW) + F.interpolate(far(coarse_BCHW), scale_factor=2.0, mode="nearest")
        readout_BD = torch.cat([coarse_BCHW.mean((2, 3)), coarse_BCHW.amax((2, 3))], dim=1)
        quarters_BLD = F.avg_pool2d(coarse_BCHW, coarse_BCHW.shape[2] // 2).flatten(2).transpose(1, 2)
        tokens_BLD = self.glance_token(quarters_BLD) + self.glance_position
        logits_BC = self.glance_head(readout_BD)
        score_BM = self._score(coarse_BCHW.detach(), readout_BD.detach())
        return Glance(logits_BC, tokens_BLD, context_BCHW, score_BM, score_BM.argsort(dim=1, descending=True))

    def _score(self, coarse_BCHW: Tensor, readout_BD: Tensor) -> Tensor:
        """Match the glance's readout with each cell's key; detached, so that judging does not bend what is judged."""
        keys_BMD = self.key(coarse_BCHW.flatten(2).transpose(1, 2)) + self.key_position
        return torch.einsum("bd,bmd->bm", self.query(readout_BD), keys_BMD).float() * KEY_DIM**-0.5

    def forward(self, x_BCHW: Tensor) -> Answers:
        """Answer at all prefixes in one pass; in training from a drawn order, with a rival to its first round."""
        glance = self.glance(x_BCHW)
        order_BM = self._drawn(glance.score_BM.detach()) if self.training else glance.order_BM
        return self.answers(x_BCHW, glance, order_BM)

    def answers(self, x_BCHW: Tensor, glance: Glance, order_BM: Tensor) -> Answers:
        """Answer at all prefixes in one pass, reading in a given order."""
        tape_BMD = take(self.cells.dense(x_BCHW, glance.context_BCHW), order_BM)
        batch, sizes = tape_BMD.shape[0], self.config.sizes
        readouts = [readout.expand(batch, 1, -1) for readout in self.readout]
        parts = [glance.tokens_BLD]
        for tape_BTD, readout_B1D in zip(torch.split(tape_BMD, list(sizes), dim=1), readouts, strict=True):
            parts += [tape_BTD, readout_B1D]
        if self.training:  # the cells after those of the first round, read as if they were the first
            parts += [tape_BMD[:, sizes[0] : 2 * sizes[0]], readouts[0]]
        x_BLD = torch.cat(parts, dim=1)
        groups_L = self.groups if self.training else self.groups[: x_BLD.shape[1]]
        for block in self.blocks:
            x_BLD, _ = block(x_BLD, may_look(groups_L, groups_L), NUM_GLANCE)
        ends = self.ends if self.training else self.ends[:-1]
        logits_BPC = self.head(self.norm(x_BLD[:, ends]))
        logits_BPC = torch.cat([glance.logits_BC[:, None], logits_BPC], dim=1)
        if not self.training:
            return Answers(logits_BPC)
        score_BM = take(glance.score_BM, order_BM)[:, : 2 * sizes[0]]
        saved_B = score_BM[:, : sizes[0]].sum(1) - score_BM[:, sizes[0] :].sum(1)
        return Answers(logits_BPC[:, :-1], logits_BPC[:, -1], saved_B)

    def read(
        self, x_BCHW: Tensor, glance: Glance, number: int, past: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run one round: tokenise its cells alone, and answer.

        Shapes: returns logits_BC and, for the next round, each block's keys and values [2,B,K,D] so far; `past` is
        what the round before returned, None for round 1.
        """
        start, end = self.config.prefixes[number - 1 : number + 1]
        tape_BTD = self.cells.picked(x_BCHW, glance.context_BCHW, glance.order_BM[:, start:end])
        parts = [tape_BTD, self.readout[number - 1].expand(tape_BTD.shape[0], 1, -1)]
        groups_K = self.groups[: self.ends[number - 1] + 1]
        x_BLD = torch.cat([glance.tokens_BLD, *parts] if number == 1 else parts, dim=1)
        mask_LK = may_look(groups_K[-x_BLD.shape[1] :], groups_K)
        seen = []
        for index, block in enumerate(self.blocks):
            x_BLD, seen_2BKD = block(x_BLD, mask_LK, NUM_GLANCE if number == 1 else 0, past[index] if past else None)
            seen.append(seen_2BKD)
        return self.head(self.norm(x_BLD[:, -1])), seen

    @cached_property
    def ends(self) -> list[int]:
        """Where the readouts stand in a training pass, the rival's last."""
        ends, end = [], NUM_GLANCE
        for size in (*self.config.sizes, self.config.sizes[0]):
            ends.append(end + size)
            end += size + 1
        return ends

    def _drawn(self, score_BM: Tensor) -> Tensor:
        """Draw an order to learn from: every second sample by chance, the others by score with noise."""
        noise_BM = -torch.log(-torch.log(torch.rand_like(score_BM).clamp(1e-6, 1 - 1e-6)))
        scaled_BM = (score_BM - score_BM.mean(1, keepdim=True)) / (score_BM.std(1, keepdim=True) + 1e-6)
        scaled_BM = scaled_BM * 2 * (torch.arange(len(score_BM), device=score_BM.device) % 2)[:, None]
        order_BM = (scaled_BM + noise_BM).argsort(dim=1, descending=True)
        first = self.config.sizes[0]  # the rival's cells are drawn from all that remain, not the next best
        rest = first + torch.randperm(score_BM.shape[1] - first, device=score_BM.device)
        return torch.cat([order_BM[:, :first], order_BM[:, rest]], dim=1)


def _groups(config: RoundsConfig) -> Tensor:
    """Return the round of each token in a training pass: 0 for the glance, -1 for the rival first round at the end."""
    groups = [0] * NUM_GLANCE
    for number, size in enumerate(config.sizes, start=1):
        groups += [number] * (size + 1)
    return torch.tensor(groups + [-1] * (config.sizes[0] + 1))


def to_pixels(pixels_BHWC: Tensor) -> Tensor:
    """Turn stored uint8 images into what a classifier takes."""
    return scale_pixels(pixels_BHWC).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def channels_last(layers: Layers) -> Layers:
    """Lay out convolutions as they run fastest; the layers themselves are changed."""
    layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return layers


def may_look(from_L: Tensor, to_K: Tensor) -> Tensor:
    """Return where tokens of these rounds may look [L,K]: at their own round, and at earlier ones."""
    is_earlier = (from_L[:, None] >= to_K[None]) & (to_K[None] >= 0)
    is_glance = (to_K == 0)[None]
    return is_earlier | is_glance | (from_L[:, None] == to_K[None])
