"""Tape banks: what there is to read.

Shape legend: B batch, P side of the bank's grid, M bank entries, E features before projection, D dim.
"""

import torch
from torch import Tensor, nn

from adatape.config import ModelConfig, TapeConfig


def lecun_normal_(weight: Tensor) -> None:
    """Fill a linear or convolution kernel as Flax's default initialiser does."""
    fan_in = weight[0].numel()
    nn.init.trunc_normal_(
        weight, std=fan_in**-0.5 / 0.87962566, a=-2 * fan_in**-0.5 / 0.87962566, b=2 * fan_in**-0.5 / 0.87962566
    )


def patch_embedding(channels: int, patch: int) -> nn.Conv2d:
    """Return the linear map of non-overlapping patches, row-major."""
    conv = nn.Conv2d(3, channels, patch, stride=patch)
    lecun_normal_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def conv_stem(layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """Return 3x3 convolutions with batch norm and ReLU; `layers` are (channels, stride)."""
    modules: list[nn.Module] = []
    previous = 3
    for channels, stride in layers:
        conv = nn.Conv2d(previous, channels, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        modules += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        previous = channels
    return nn.Sequential(*modules)


class ImageBank(nn.Module):
    """Input-driven bank: a second, finer tokenisation of the same image.

    Differs: the official bank is one linear patch embedding; `bank_stem` allows a small convolutional one.
    """

    def __init__(self, config: ModelConfig, tape: TapeConfig) -> None:
        super().__init__()
        features = tape.bank_stem[-1][0] if tape.bank_stem else config.dim
        self.embedding = conv_stem(tape.bank_stem) if tape.bank_stem else patch_embedding(features, tape.bank_patch)
        self.position = nn.Parameter(torch.randn(1, config.bank_size, features) * 0.02)
        self.project = nn.Linear(features, config.dim)
        lecun_normal_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        features_BME = self.embedding(image_BCHW).flatten(2).transpose(1, 2)
        return self.project(features_BME + self.position)


class SymbolBank(nn.Module):
    """The parity model's bank: one entry a symbol, without position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.Linear(3, config.dim)
        lecun_normal_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, symbols_BM3: Tensor) -> Tensor:
        return self.project(symbols_BM3)


class LearnedBank(nn.Module):
    """Learnable bank, shared by all samples; each tape layer has its own."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(nn.init.trunc_normal_(torch.empty(size, dim), a=-2.0, b=2.0) * 0.02)

    def forward(self, batch: int) -> Tensor:
        return self.entries.expand(batch, -1, -1)
