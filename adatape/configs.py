"""Named models and recipes: the paper's sizes, the families we ship, and small ones for tests."""

from dataclasses import dataclass, field, replace
from typing import Any

from adatape.config import ModelConfig, TapeConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained.

    `cap_full_share` is the share of training batches that read without a cap; the others draw theirs
    from `caps` (budget-aware training), so that every prefix of a tape is a good tape. An empty `caps`
    turns it off.
    Units: epochs are passes over the training split, warmup_epochs likewise; crop_px is padding in pixels.
    """

    epochs: float = 30.0
    batch_size: int = 256
    lr: float = 2e-3
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    loss: str = "softmax"
    label_smoothing: float = 0.05
    caps: tuple[int, ...] = ()
    cap_full_share: float = 0.4
    crop_px: int = 0
    flip: bool = False
    scale_crop: float = 1.0
    color: float = 0.0
    mix: float = 0.0
    ema: float = 0.0
    validation_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with its recipe."""

    model: ModelConfig
    recipe: Recipe = field(default_factory=Recipe)


def _paper(name: str, dim: int, depth: int, num_heads: int, mlp_dim: int) -> Preset:
    tape = TapeConfig(capacity=10, halting_threshold=2.0, bank_patch=8, key_split=num_heads, tape_mlp_dim=mlp_dim)
    model = ModelConfig(name, 1000, dim, depth, num_heads, mlp_dim, image_size=224, patch=16, tape=tape)
    recipe = Recipe(epochs=300, batch_size=4096, lr=1e-3, warmup_epochs=32, weight_decay=0.1, loss="sigmoid", label_smoothing=0, flip=True, scale_crop=0.08)
    return Preset(model, recipe)


def _cifar10() -> Preset:
    tape = TapeConfig(
        capacity=16, halting_threshold=4.0, bank_patch=4, bank_stem=((32, 1), (64, 2), (128, 2)), key_split=3
    )
    model = ModelConfig("cifar10", 10, 192, 6, 3, 384, image_size=32, patch=16, tape=tape)
    recipe = Recipe(epochs=36, batch_size=256, caps=(0, 1, 2, 4, 8, 12), crop_px=4, flip=True)
    return Preset(model, recipe)


PRESETS: dict[str, Preset] = {
    "ti": _paper("ti", 192, 12, 3, 768),
    "s": _paper("s", 384, 12, 6, 1536),
    "b": _paper("b", 768, 12, 12, 3072),
    "l": _paper("l", 1024, 24, 16, 4096),
    "cifar10": _cifar10(),
}
