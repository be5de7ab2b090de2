"""Configs say what is wrong with them, and survive JSON."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given

from adatape.config import ModelConfig, TapeConfig
from adatape.configs import PRESETS
from tests.adatape.models import IMAGE, PARITY, configs, two_layers, with_tape


@given(configs | two_layers)
def test_a_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_survives_json(preset: object) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(preset.model.to_dict()))) == preset.model


def test_a_plain_config_survives_json() -> None:
    plain = replace(IMAGE, tape=None)
    assert ModelConfig.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain


TAPE_ERRORS = {
    "capacity": ({"capacity": 0}, "tape.capacity; got 0; expected at least 1"),
    "threshold zero": ({"halting_threshold": 0.0}, "tape.halting_threshold; got 0.0"),
    "threshold above capacity": ({"halting_threshold": 6.5}, "tape.halting_threshold; got 6.5"),
    "threshold not a number": ({"halting_threshold": float("nan")}, "tape.halting_threshold; got nan"),
    "before the first block": ({"layers": (-1,)}, "tape.layers"),
    "after the last block": ({"layers": (3,)}, "expected block numbers below depth=3"),
    "no layer": ({"layers": ()}, "tape.layers"),
    "a layer twice": ({"layers": (1, 1)}, "tape.layers"),
    "layers out of order": ({"layers": (2, 1)}, "tape.layers"),
    "bank": ({"bank": "disk"}, "tape.bank; got disk; expected input or learn"),
    "query": ({"query": "max"}, "tape.query; got max"),
    "ponder": ({"ponder": "gini"}, "tape.ponder; got gini"),
    "bernoulli": ({"bernoulli_p": 1.0}, "tape.bernoulli_p; got 1.0"),
    "noise": ({"query_noise": -1.0}, "tape.query_noise; got -1.0"),
    "key split": ({"key_split": 3}, "tape.key_split; got 3; expected a divisor of dim=8"),
    "bank patch": ({"bank_patch": 5}, "tape.bank_patch; got 5; expected a divisor of image_size=24"),
    "stem strides": ({"bank_stem": ((4, 2),)}, "tape.bank_stem"),
    "bank smaller than all reads": ({"bank": "learn", "bank_size": 17}, "tape bank size; got 17; expected at least 18"),
    "fixed, bank too small": ({"bank": "learn", "bank_size": 5, "halting_threshold": None}, "expected at least 6"),
}
MODEL_ERRORS = {
    "classes": ({"num_classes": 0}, "num_classes; got 0; expected at least 1"),
    "heads": ({"num_heads": 3}, "dim; got 8; expected a multiple of num_heads=3"),
    "input": ({"input": "audio"}, "input; got audio"),
    "pooling": ({"pooling": "sum"}, "pooling; got sum"),
    "image size": ({"image_size": 20}, "image_size; got 20; expected a multiple of patch=8"),
    "dropout": ({"dropout": 1.0}, "dropout; got 1.0"),
    "depth": ({"stochastic_depth": -0.1}, "stochastic_depth; got -0.1"),
}


@pytest.mark.parametrize(("changes", "message"), TAPE_ERRORS.values(), ids=TAPE_ERRORS)
def test_a_wrong_tape_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        with_tape(**changes)


@pytest.mark.parametrize(("changes", "message"), MODEL_ERRORS.values(), ids=MODEL_ERRORS)
def test_a_wrong_model_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(IMAGE, **changes)


def test_the_parity_model_has_no_learnable_bank() -> None:
    with pytest.raises(ValueError, match=r"tape\.bank; got learn"):
        with_tape(PARITY, bank="learn")
    with pytest.raises(ValueError, match="seq_len; got 0"):
        replace(PARITY, seq_len=0)


@pytest.mark.parametrize("compat_case", [({"halting_threshold": None, "bank_size": 5}, 6), ({"bank_size": 2}, 3)])
def test_compat_still_needs_the_entries_of_one_step(compat_case: tuple[dict[str, object], int]) -> None:
    changes, needed = compat_case
    official = replace(IMAGE, compat=True)
    assert with_tape(official, bank="learn", bank_size=6).bank_size == 6
    with pytest.raises(ValueError, match=f"expected at least {needed}"):
        with_tape(official, bank="learn", **changes)


@pytest.mark.parametrize("where", ["model", "tape"])
def test_unknown_keys_are_refused(where: str) -> None:
    data = IMAGE.to_dict()
    (data if where == "model" else data["tape"])["num_token_per_step"] = 2
    with pytest.raises(ValueError, match=r"keys; got \['num_token_per_step'\]; expected only"):
        ModelConfig.from_dict(data)


def test_sizes_follow_from_the_config() -> None:
    assert (IMAGE.num_tokens, IMAGE.bank_size, IMAGE.capacity) == (9, 36, 6)
    assert (PARITY.num_tokens, PARITY.bank_size) == (1, 24)
    assert replace(IMAGE, has_class_token=True).num_tokens == 10
    assert with_tape(bank="learn", bank_size=99).bank_size == 99
    assert TapeConfig(halting_threshold=None).reads_per_step == 1
