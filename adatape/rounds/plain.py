"""Plain networks that read an image once: the teacher, and the rivals that a rounds model is compared with.

Each takes pixels in [-1,1] and answers once, so its answers have a prefix axis of length 1 and the same trainer fits.
Shape legend: B batch, C channels or classes, H height, W width, L tokens, D dim.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adatape.layers import Block, layer_norm
from adatape.rounds.layers import ConvNorm
from adatape.rounds.model import Answers, Classifier

Kind = Literal["wide", "resnet", "vit"]


@dataclass(frozen=True, slots=True)
class PlainConfig:
    """One plain network. `depth` is 6 n + 2 for a ResNet, blocks for a ViT, and unused for the wide net."""

    name: str
    kind: Kind
    num_classes: int = 10
    image_size: int = 32
    width: int = 16
    depth: int = 20
    patch: int = 4
    num_heads: int = 4

    def __post_init__(self) -> None:
        if self.kind not in ("wide", "resnet", "vit"):
            raise ValueError(f"kind; got {self.kind}; expected wide, resnet or vit")
        if self.kind == "resnet" and self.depth % 6 != 2:
            raise ValueError(f"depth of a ResNet; got {self.depth}; expected 6 n + 2")
        if self.kind == "vit" and (self.image_size % self.patch or self.width % self.num_heads):
            raise ValueError(
                f"patch and heads; got {self.patch}, {self.num_heads}; expected divisors of size and width"
            )

    @property
    def prefixes(self) -> tuple[int, ...]:
        return (0,)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


class PlainNet(Classifier):
    """A body of features and a linear head."""

    config: PlainConfig

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        bodies: dict[Kind, Callable[[PlainConfig], _Features | _Vit]] = {"wide": _wide, "resnet": _resnet, "vit": _Vit}
        body = bodies[config.kind](config)
        self.body = body
        self.head = nn.Linear(body.num_features, config.num_classes)

    def forward(self, x_BCHW: Tensor) -> Answers:
        """Answer once."""
        logits_BC: Tensor = self.head(self.body(x_BCHW))
        return Answers(logits_BC[:, None])


class _Features(nn.Sequential):
    """Layers that end in a vector of `num_features`."""

    def __init__(self, *layers: nn.Module, num_features: int) -> None:
        super().__init__(*layers)
        self.num_features = num_features


class _GlobalMax(nn.Module):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.amax((2, 3))


class _GlobalMean(nn.Module):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((2, 3))


def _wide(config: PlainConfig) -> _Features:
    """Three stages of two convolutions, the first of each pooled: few layers, many channels.

    Source: the shape of the network in Jordan 2024, "94 % on CIFAR-10 in 3.29 seconds".
    """
    width = config.width
    layers: list[nn.Module] = [ConvNorm(3, 24, kernel=2, padding=0)]
    channels = 24
    for out in (width, 4 * width, 4 * width):
        layers += [ConvNorm(channels, out, pool=True), ConvNorm(out, out)]
        channels = out
    return _Features(*layers, _GlobalMax(), num_features=channels)


class _Residual(nn.Module):
    """Two convolutions beside a short cut; where the resolution halves, the short cut is a 1x1 convolution."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, out, stride=stride)
        self.second = ConvNorm(out, out, has_relu=False)
        changed = stride > 1 or channels != out
        self.short = ConvNorm(channels, out, kernel=1, stride=stride, padding=0, has_relu=False) if changed else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        short = x_BCHW if self.short is None else self.short(x_BCHW)
        return torch.relu(short + self.second(self.first(x_BCHW)))


def _resnet(config: PlainConfig) -> _Features:
    """Source: He et al. 2016, section 4.2; differs by a 1x1 convolution in the short cut that halves."""
    layers: list[nn.Module] = [ConvNorm(3, config.width)]
    channels = config.width
    for stage in range(3):
        for index in range((config.depth - 2) // 6):
            out = config.width << stage
            layers.append(_Residual(channels, out, stride=2 if stage and not index else 1))
            channels = out
    return _Features(*layers, _GlobalMean(), num_features=channels)


class _Vit(nn.Module):
    """Patches, positions, pre-norm blocks, the mean of the tokens."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.num_features = config.width
        num_tokens = (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.position = nn.Parameter(torch.randn(1, num_tokens, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, 2 * config.width) for _ in range(config.depth)
        )
        self.norm = layer_norm(config.width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BLD = self.patches(x_BCHW).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x_BLD = block(x_BLD)
        pooled: Tensor = self.norm(x_BLD).mean(1)
        return pooled


TEACHER = PlainConfig("teacher", "wide", width=64)
RIVALS = {
    "resnet8": PlainConfig("resnet8", "resnet", depth=8),
    "resnet20": PlainConfig("resnet20", "resnet", depth=20),
    "resnet56": PlainConfig("resnet56", "resnet", depth=56),
    "vit": PlainConfig("vit", "vit", width=128, depth=6),
}
