"""Named models with their recipes: the rounds model, its teacher and its rivals."""

import json
from dataclasses import asdict, replace
from typing import Any

from adatape.rounds.config import RoundsConfig
from adatape.rounds.plain import RIVALS, TEACHER, PlainConfig
from adatape.rounds.recipe import RoundsRecipe

_TEACHER = RoundsRecipe(epochs=8, batch_size=512, lr=8e-3, weight_decay=0.15, warmup_epochs=1, cutout=6, ema=0.99)
_RIVAL = RoundsRecipe(epochs=60, num_views=8)

PRESETS: dict[str, tuple[Any, RoundsRecipe]] = {
    "cifar10": (RoundsConfig("cifar10"), RoundsRecipe(num_views=8)),
    "teacher": (TEACHER, _TEACHER),
    **{name: (config, _RIVAL) for name, config in RIVALS.items()},
}


def preset(name: str, overrides: dict[str, str]) -> tuple[RoundsConfig | PlainConfig, RoundsRecipe]:
    """Return a named model and recipe; `overrides` maps `recipe.X` or `model.X` to JSON values.

    Raises: ValueError naming the presets or keys there are.
    """
    if name not in PRESETS:
        raise ValueError(f"config; got {name!r}; expected one of {', '.join(PRESETS)}")
    config, recipe = PRESETS[name]
    for key, text in overrides.items():
        section, _, option = key.partition(".")
        chosen = {"recipe": recipe, "model": config}.get(section)
        if chosen is None or option not in asdict(chosen):
            raise ValueError(f"override; got {key!r}; expected recipe.* or model.* and an option of it")
        changed = replace(chosen, **{option: _value(text)})
        recipe, config = (changed, config) if section == "recipe" else (recipe, changed)
    return config, recipe


def _value(text: str) -> object:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value
