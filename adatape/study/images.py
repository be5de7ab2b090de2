"""Quality against cost on images: AdaTape beside fixed and adaptive transformers of one width, trained alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adatape.baselines.act import ActConfig, ActTransformer
from adatape.baselines.avit import AVit, AvitConfig
from adatape.baselines.pondernet import PonderConfig, PonderNet
from adatape.config import ModelConfig, TapeConfig
from adatape.configs import Preset, Recipe
from adatape.curve import SplitId
from adatape.data import Dataset, Split, open_source
from adatape.evaluate import evaluate
from adatape.model import AdaTape
from adatape.study.ablation import build_ablated
from adatape.study.behaviour import behaviour_figures
from adatape.study.quality import quality
from adatape.study.runs import Spec
from adatape.transformer import Transformer, to_inputs

NUM_TRAIN = 20_000
"""Training images used, so that a run takes minutes on one core."""
CAPS = (0, 1, 2, 4, 8, 16)
RECIPE = Recipe(epochs=5, batch_size=128, lr=1e-3, warmup_epochs=1, shift=4, flip=True, caps=(0, 1, 2, 4, 8))
MODEL = ModelConfig("study", 10, 96, 6, 3, 192, image_size=32, patch=16)
TAPE = TapeConfig(
    capacity=16, halting_threshold=4.0, bank_patch=4, bank_size=64, key_split=3, tape_mlp_dim=0, tape_ffn_dim=96
)
STEMS = {2: ((16, 1), (64, 2)), 4: ((16, 1), (32, 2), (64, 2)), 8: ((16, 1), (32, 2), (64, 2), (64, 2))}
"""By bank patch: the small convolutional tokeniser that the shipped families use in place of a linear one."""
RARE_CAPS = 0.8
"""The share of batches without a cap in a run that has fewer caps than the recipe, but some."""
SLOW = ("adatape-input-8", "vit-4")
TIMED_BATCHES = (1, 32)
TIMED_IMAGES = 256
Build = Callable[[ModelConfig], Transformer]


def with_tape(base: ModelConfig = MODEL, **changes: Any) -> ModelConfig:
    """Return AdaTape with changes to its tape."""
    return replace(base, tape=replace(TAPE, **changes))


def with_conv_bank(base: ModelConfig = MODEL, *, bank_patch: int = 4, **changes: Any) -> ModelConfig:
    """Return AdaTape whose bank is tokenised by convolutions, with changes to its tape."""
    return with_tape(base, bank_patch=bank_patch, bank_stem=STEMS[bank_patch], **changes)


def models(coarse: ModelConfig = MODEL) -> dict[str, tuple[ModelConfig, Build]]:
    """Return the models compared, by name; `coarse` has patches of 16 pixels."""
    fine, depth = replace(coarse, patch=8), coarse.depth
    act = partial(ActConfig, max_steps=depth)
    ponder = PonderConfig(max_steps=depth, shares_block=False)
    return {
        "adatape-input": (with_tape(coarse), AdaTape),
        "vit-16": (coarse, AdaTape),
        "vit-8": (fine, AdaTape),
        "uvit": (fine, partial(ActTransformer, act=act(shares_block=False))),
        "u2t": (fine, partial(ActTransformer, act=act(shares_block=True))),
        "a-vit": (replace(fine, has_class_token=True, pooling="token"), partial(AVit, avit=AVIT)),
        "pondernet-vit": (fine, partial(PonderNet, ponder=ponder)),
        "adatape-conv": (with_conv_bank(coarse), AdaTape),
        "adatape-learn": (with_tape(coarse, bank="learn"), AdaTape),
        "adatape-input-8": (with_tape(fine), AdaTape),
        "vit-4": (replace(coarse, patch=4), AdaTape),
    }


AVIT = AvitConfig(gate_scale=10.0, gate_center=3.0)
"""At this width and from random weights, a centre of 30 never halts: first features start near 0."""


def ablations() -> dict[str, tuple[ModelConfig, Build, Recipe]]:
    """Return AdaTape with a convolutional bank and one thing changed, by name; last, a finer linear bank."""
    found: dict[str, tuple[ModelConfig, Build, Recipe]] = {
        name.replace(" ", "-"): (with_conv_bank(), partial(build_ablated, ablation=name), RECIPE)
        for name in ("random entries", "first entries")
    }
    found["no-caps"] = (with_conv_bank(), AdaTape, replace(RECIPE, caps=()))
    found["rare-caps"] = (with_conv_bank(), AdaTape, replace(RECIPE, full_tape_share=RARE_CAPS))
    changed: dict[str, dict[str, Any]] = {
        "one-ffn": {"tape_ffn_dim": 0},
        "K=1": {"halting_threshold": 16.0},
        "bank-2": {"bank_patch": 2},
        "bank-8": {"bank_patch": 8, "capacity": 4, "halting_threshold": 1.0},
        "simple-query": {"complex_query": False},
        "ponder-0": {"ponder_weight": 0.0},
        "ponder-0.1": {"ponder_weight": 0.1},
    }
    found |= {name: (with_conv_bank(**changes), AdaTape, RECIPE) for name, changes in changed.items()}
    return {**found, "linear-bank-2": (with_tape(bank_patch=2), AdaTape, RECIPE)}


def specs(source: str, num_seeds: int) -> Iterator[Spec]:
    """Give every run of the study: seed by seed the models and the ablations, and last the slow models."""
    for seed in range(num_seeds):
        yield from compared(source, seed, (name for name in models() if name not in SLOW))
        for name, (model, build, recipe) in ablations().items():
            yield Spec("images", "ablations", name, seed, source, Preset(model, recipe), build)
    for seed in range(num_seeds):
        yield from compared(source, seed, SLOW)


def compared(source: str, seed: int, names: Iterable[str]) -> Iterator[Spec]:
    """Give these models, trained alike."""
    for name in names:
        model, build = models()[name]
        yield Spec("images", "models", name, seed, source, Preset(model, RECIPE), build)


def quick_specs() -> Iterator[Spec]:
    """Give a study small enough for a test, on scikit-learn's digits."""
    recipe = replace(RECIPE, epochs=3, warmup_epochs=0.5, batch_size=64, flip=False, shift=2)
    small = replace(MODEL, dim=48, depth=3, mlp_dim=96)
    for name, (model, build) in models(small).items():
        yield Spec("images", "models", name, 0, "digits", Preset(model, recipe), build)
    ablated = partial(build_ablated, ablation="random entries")
    yield Spec("images", "ablations", "random-entries", 0, "digits", Preset(with_conv_bank(small), recipe), ablated)


def open_images(spec: Spec) -> Dataset:
    """Return the images of a run: a fixed part of the training split, and all of the others."""
    data = open_source(spec.data, image_size=spec.chosen.model.image_size)
    return replace(data, train=Split(data.train.x[:NUM_TRAIN], data.train.y[:NUM_TRAIN]))


def measure(_: Spec, model: Transformer, data: Dataset) -> dict[str, Any]:
    """Return accuracy and cost on the test images, and for AdaTape its frontier and what it reads."""
    split = data.split("test")
    figures = {**quality(model, split), "images_per_s": speeds(model, split), "num_train": len(data.train)}
    if isinstance(model, AdaTape) and model.config.tape:
        caps = [cap for cap in CAPS if cap <= model.config.capacity]
        curve = evaluate(model, split, caps, SplitId(data.name, "test", split.digest))
        figures["frontier"] = [asdict(point) for point in curve.points]
        figures["tape_histogram"] = list(curve.histogram)
        figures["behaviour"] = behaviour_figures(model, split)
    return figures


@torch.no_grad()
def speeds(model: Transformer, split: Split) -> dict[str, float]:
    """Return images per CPU second of one core, run eagerly, at each batch size; the median of three passes.

    CPU time, not time on the clock: what else the machine does disturbs it less.
    """
    x = to_inputs(torch.from_numpy(split.x[:TIMED_IMAGES]), model.config)
    return {str(size): statistics.median(_speed(model, x, size) for _ in range(3)) for size in TIMED_BATCHES}


def _speed(model: Transformer, x_BHWC: Tensor, size: int) -> float:
    started_s = time.process_time()
    for batch in torch.split(x_BHWC, size):
        model(batch)
    return len(x_BHWC) / (time.process_time() - started_s)
