"""Named models and recipes: the paper's sizes, the families we ship, and a small one for tests."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from adatape.config import ModelConfig, TapeConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained.

    Budget-aware training: `full_tape_share` of the batches read without a cap, the others draw theirs
    from `caps`, so that every prefix of a tape is a good tape; an empty `caps` turns it off.
    Units: epochs and warmup_epochs are passes over the training split; shift is in pixels; min_zoom is
    the smallest area of a random crop as a share of the image; rotate_deg in degrees; ema is the decay
    of the averaged weights that are kept, 0 for none.
    """

    epochs: float = 30.0
    batch_size: int = 256
    lr: float = 2e-3
    warmup_epochs: float = 2.0
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    loss: Literal["softmax", "sigmoid"] = "softmax"
    label_smoothing: float = 0.05
    caps: tuple[int, ...] = ()
    full_tape_share: float = 0.4
    shift: int = 0
    min_zoom: float = 1.0
    rotate_deg: float = 0.0
    flip: bool = False
    color: float = 0.0
    mix: float = 0.0
    ema: float = 0.0
    validation_share: float = 0.1


MIN_BATCHES = 10
"""Batches that an epoch should have: fewer, and a model hardly moves before its epochs are over."""
MIN_BATCH_SIZE = 8


def fit_to_size(recipe: Recipe, num_images: int) -> Recipe:
    """Return a recipe for few images: smaller batches, and a learning rate that is smaller by the root of their ratio.

    What is large enough is returned as it is.
    """
    batch_size = max(MIN_BATCH_SIZE, num_images // MIN_BATCHES)
    if batch_size >= recipe.batch_size:
        return recipe
    return replace(recipe, batch_size=batch_size, lr=recipe.lr * (batch_size / recipe.batch_size) ** 0.5)


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with its recipe."""

    model: ModelConfig
    recipe: Recipe = field(default_factory=Recipe)


def _paper(name: str, dim: int, depth: int, num_heads: int, mlp_dim: int) -> Preset:
    """Source: the official configurations; 300 epochs, AdamW, sigmoid loss."""
    tape = TapeConfig(capacity=10, halting_threshold=2.0, bank_patch=8, key_split=num_heads, tape_mlp_dim=mlp_dim)
    model = ModelConfig(name, 1000, dim, depth, num_heads, mlp_dim, image_size=224, patch=16, tape=tape)
    recipe = Recipe(
        epochs=300,
        batch_size=4096,
        lr=1e-3,
        warmup_epochs=32,
        weight_decay=0.1,
        loss="sigmoid",
        label_smoothing=0,
        flip=True,
        min_zoom=0.1,
        mix=0.5,
    )
    return Preset(model, recipe)


def _cifar10() -> Preset:
    """Four coarse patches, and a bank of 64 fine ones behind a small convolutional stem."""
    stem = ((24, 1), (64, 2), (96, 2), (96, 1))
    tape = TapeConfig(capacity=16, halting_threshold=4.0, bank_patch=4, bank_stem=stem, key_split=3, tape_ffn_dim=256)
    model = ModelConfig("cifar10", 10, 192, 6, 3, 384, image_size=32, patch=16, tape=tape)
    recipe = Recipe(epochs=18, caps=(0, 1, 2, 4, 8, 12), shift=4, flip=True, ema=0.998)
    return Preset(model, recipe)


def _photo() -> Preset:
    """Sixteen coarse patches of 32 px, and a bank of 64 of 16 px behind a convolutional stem."""
    stem = ((24, 2), (48, 2), (96, 2), (128, 2), (128, 1))
    tape = TapeConfig(capacity=16, halting_threshold=4.0, bank_patch=16, bank_stem=stem, key_split=3, tape_ffn_dim=256)
    model = ModelConfig("photo", 10, 192, 6, 3, 384, image_size=128, patch=32, tape=tape)
    caps = (0, 1, 2, 4, 8, 12)
    recipe = Recipe(epochs=52, batch_size=128, caps=caps, min_zoom=0.5, flip=True, color=0.2, ema=0.995)
    return Preset(model, recipe)


def _digits() -> Preset:
    """Small enough for a test: scikit-learn's embedded digits."""
    tape = TapeConfig(capacity=8, halting_threshold=4.0, bank_patch=4, key_split=2)
    model = ModelConfig("digits", 10, 32, 3, 2, 64, image_size=32, patch=16, tape=tape)
    recipe = Recipe(epochs=20, batch_size=64, lr=3e-3, caps=(0, 1, 2, 4), shift=2)
    return Preset(model, recipe)


def _parity() -> Preset:
    """Is the number of ones odd? One flattened main token; the bank holds the symbols, read in pairs.

    Keys of few features and no ponder loss keep the weights of a mixed token away from 0 and 1. With all 64 features
    as keys, normalised entries differ by 8 in the softmax; the ponder loss prefers such decided weights. Either way
    a mixed token is all but pure, and strings of 40 symbols stay at chance. Two blocks after the tape see how many
    mixed tokens hold a one; a single block may only see whether any does.
    """
    tape = TapeConfig(
        capacity=8, halting_threshold=4.0, query="token", key_split=16, tape_ffn_dim=64, ponder_weight=0.0
    )
    model = ModelConfig(
        "parity", 2, 64, 3, 2, 128, input="parity", seq_len=16, pooling="token", has_class_token=True, tape=tape
    )
    recipe = Recipe(epochs=0.75, batch_size=128, lr=1e-3, warmup_epochs=0.05, label_smoothing=0)
    return Preset(model, recipe)


PRESETS: dict[str, Preset] = {
    "ti": _paper("ti", 192, 12, 3, 768),
    "s": _paper("s", 384, 12, 6, 1536),
    "b": _paper("b", 768, 12, 12, 3072),
    "l": _paper("l", 1024, 24, 16, 4096),
    "cifar10": _cifar10(),
    "photo": _photo(),
    "digits": _digits(),
    "parity": _parity(),
}


def preset(name: str, overrides: dict[str, Any] | None = None) -> Preset:
    """Return a named preset; `overrides` maps `recipe.X`, `tape.X` or `model.X` to JSON values.

    Raises: ValueError naming the presets or keys there are.
    """
    if name not in PRESETS:
        raise ValueError(f"config; got {name!r}; expected one of {', '.join(PRESETS)}")
    chosen = PRESETS[name]
    model, recipe = chosen.model.to_dict(), asdict(chosen.recipe)
    for key, value in (overrides or {}).items():
        section, _, option = key.partition(".")
        if section == "recipe" and option in recipe:
            recipe[option] = tuple(value) if isinstance(value, list) else value
        elif section == "model" and option in model:
            model[option] = value
        elif section == "tape" and model["tape"] and option in model["tape"]:
            model["tape"] = {**model["tape"], option: value}
        else:
            raise ValueError(f"override; got {key!r}; expected recipe.*, model.* or tape.* and an option of it")
    return Preset(ModelConfig.from_dict(model), Recipe(**recipe))
