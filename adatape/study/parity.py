"""Parity of strings over {-1, 0, 1}, odd or even number of ones, learned by AdaTape and its baselines.

`fixed` strings have the length of their table; `variable` ones any length up to it, filled up with blanks.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from adatape.baselines.act import ActConfig, ActTransformer
from adatape.baselines.pondernet import PonderConfig, PonderNet
from adatape.config import ModelConfig
from adatape.configs import Preset, preset
from adatape.data import PARITY_SIZES, Dataset, open_source, parity_strings
from adatape.model import AdaTape
from adatape.study.ablation import build_ablated, build_blind
from adatape.study.mechanism import mechanism_figures
from adatape.study.quality import quality
from adatape.study.runs import Spec
from adatape.transformer import Transformer

FIXED, VARIABLE, SHORT = "parity", "parity-variable", "parity-short"
"""Strings of one length, of any length, and of any length up to half of what the model has room for."""
LENGTHS = (8, 16, 32, 40)
ABLATION_LENGTH, ROOM = 16, 32
MAX_STEPS = 4
"""What the depth-adaptive models may take; twice the depth of the others."""
LONG_STRINGS, LONG_STRING_EPOCHS = 32, 1.5
"""Above this length the deep models are given twice the steps of the preset."""
LONG_TRAINING = 5
"""How many times the steps the plain transformer is given in its second chance."""


def parity_preset(length: int, *, reads: int = 2, capacity: int | None = None, deep: bool = False) -> Preset:
    """Return AdaTape for strings of a length; unless said otherwise its tape can hold every symbol.

    `deep` is the preset as it is, with twice its steps for long strings; else it has one block less, and two thirds
    of the preset's steps.
    """
    capacity = length // reads if capacity is None else capacity
    tape = {"tape.capacity": capacity, "tape.halting_threshold": capacity / reads}
    shallow = {"model.depth": 2, "recipe.epochs": 0.5}
    longer = {"recipe.epochs": LONG_STRING_EPOCHS} if length > LONG_STRINGS else {}
    return preset("parity", {"model.seq_len": length, **tape, **(longer if deep else shallow)})


FAST, DEPTH_ADAPTIVE = ("adatape", "transformer", "transformer-flat"), ("ut-act", "pondernet")
DEEP = ("adatape-deep", "transformer-deep")


def models(length: int) -> dict[str, tuple[Preset, Any]]:
    """Return AdaTape and the models without a tape, of the same width, and how they are built."""
    chosen = parity_preset(length)
    flat = replace(chosen, model=replace(chosen.model, tape=None))
    tokens = replace(flat, model=replace(flat.model, symbol_tokens=True))
    act = ActConfig(
        max_steps=MAX_STEPS, shares_block=True, ponder_weight=0.0
    )  # nor does AdaTape pay for its reads here
    ponder = PonderConfig(max_steps=MAX_STEPS, shares_block=True)
    deep = parity_preset(length, deep=True)
    deep_tokens = replace(deep, model=replace(deep.model, tape=None, symbol_tokens=True))
    return {
        "adatape-deep": (deep, AdaTape),
        "transformer-deep": (deep_tokens, AdaTape),
        "adatape": (chosen, AdaTape),
        "transformer": (tokens, AdaTape),
        "transformer-flat": (flat, AdaTape),
        "ut-act": (tokens, partial(ActTransformer, act=act)),
        "pondernet": (tokens, partial(PonderNet, ponder=ponder)),
    }


def specs(num_seeds: int) -> Iterator[Spec]:
    """Give every run of the study, the cheap and telling ones first."""
    seeds = range(num_seeds)
    for name in (DEEP[:1], FAST):
        for seed in seeds:
            yield from comparison("fixed", seed, name)
    yield from details(0)
    for seed in seeds:
        yield from comparison("variable", seed, DEEP[:1])
        yield from comparison("fixed", seed, DEEP[1:])
    for kind, names in (("fixed", DEPTH_ADAPTIVE), ("variable", (*DEEP[1:], *DEPTH_ADAPTIVE))):
        for seed in seeds:
            yield from comparison(kind, seed, names)
    for seed in seeds[1:]:
        yield from details(seed)


def comparison(kind: str, seed: int, names: Iterable[str]) -> Iterator[Spec]:
    """Give these models at every length."""
    source = FIXED if kind == "fixed" else VARIABLE
    for length in LENGTHS:
        compared = models(length)
        for name in names:
            chosen, build = compared[name]
            yield Spec("parity", f"{kind}-{length}", name, seed, source, chosen, build)


def details(seed: int) -> Iterator[Spec]:
    """Give what the comparison leaves open: which part does it, and where it ends."""
    yield from ablations(ABLATION_LENGTH, seed)
    yield from limits(seed)


def ablations(length: int, seed: int) -> Iterator[Spec]:
    """Give the deeper AdaTape with one thing changed: K, what is read, and how it is merged."""
    group, changed = f"ablation-{length}", parity_preset(length, deep=True)
    yield Spec("parity", group, "K=1", seed, FIXED, parity_preset(length, reads=1, deep=True), AdaTape)
    for name in ("no merge", "random entries"):
        yield _ablated(group, name, seed, changed)
    tape = changed.model.tape
    assert tape is not None, "This is a bug."
    for name, other in {
        "wide-keys": replace(tape, key_split=1),
        "ponder-loss": replace(tape, ponder_weight=0.01),
    }.items():
        chosen = replace(changed, model=replace(changed.model, tape=other))
        yield Spec("parity", group, name, seed, FIXED, chosen, AdaTape)
    yield Spec("parity", group, "K=4", seed, FIXED, parity_preset(length, reads=4, deep=True), AdaTape)
    for name in ("no used mask", "first entries"):
        yield _ablated(group, name, seed, changed)
    for label, ablation in {"blind": None, "no-merge-blind": "no merge"}.items():
        yield Spec("parity", group, label, seed, FIXED, changed, partial(build_blind, ablation=ablation))


def _ablated(group: str, name: str, seed: int, changed: Preset) -> Spec:
    build = partial(build_ablated, ablation=name)
    return Spec("parity", group, name.replace(" ", "-"), seed, FIXED, changed, build)


def limits(seed: int) -> Iterator[Spec]:
    """Give a tape too short for the string, longer strings, and a baseline trained for longer.

    Longer than what the model is made for, and longer than what it met in training.
    """
    group = f"limits-{ABLATION_LENGTH}"
    short = parity_preset(ABLATION_LENGTH, capacity=ABLATION_LENGTH // 4, deep=True)
    yield Spec("parity", group, "half-the-tape", seed, FIXED, short, AdaTape)
    yield Spec("parity", "fixed-64", "adatape-deep", seed, FIXED, parity_preset(64, deep=True), AdaTape)
    plain, build = models(ABLATION_LENGTH)["transformer"]
    longer = replace(plain, recipe=replace(plain.recipe, epochs=plain.recipe.epochs * LONG_TRAINING))
    yield Spec("parity", group, "transformer-longer", seed, FIXED, longer, build)
    yield Spec("parity", "fixed-128", "adatape-deep", seed, FIXED, parity_preset(128, deep=True), AdaTape)
    roomy = parity_preset(ROOM, deep=True)
    builders: dict[str, Callable[[ModelConfig], Transformer]] = {"adatape-deep": AdaTape, "blind": build_blind}
    for name, builder in builders.items():
        yield Spec("parity", f"short-{ROOM}", name, seed, SHORT, roomy, builder)


def quick_specs() -> Iterator[Spec]:
    """Give a study small enough for a test: one length, one seed, few steps."""
    for name, (chosen, build) in models(8).items():
        yield Spec("parity", "fixed-8", name, 0, FIXED, _shortened(chosen), build)
    reads_one = _shortened(parity_preset(8, reads=1))
    yield Spec("parity", "ablation-8", "K=1", 0, FIXED, reads_one, AdaTape)


def _shortened(chosen: Preset) -> Preset:
    return replace(chosen, recipe=replace(chosen.recipe, epochs=0.15, warmup_epochs=0.03))


def open_strings(spec: Spec) -> Dataset:
    """Return the strings of a run."""
    width = spec.chosen.model.seq_len
    if spec.data != SHORT:
        return open_source(spec.data, image_size=0, seq_len=width)
    splits = (parity_strings(count, seed, 1, width // 2, width=width) for count, seed in PARITY_SIZES.values())
    return Dataset(SHORT, ("even", "odd"), *splits)


def measure(spec: Spec, model: Transformer, data: Dataset) -> dict[str, Any]:
    """Return accuracy on the test strings, what it cost, and how the tape did it."""
    split = data.split("test")
    figures = quality(model, split)
    if isinstance(model, AdaTape) and model.config.tape:
        capacity = model.config.capacity
        caps = sorted({0, 1, 2, capacity // 4, capacity // 2, capacity - 1, capacity})
        figures["by_cap"] = {str(cap): quality(model, split, cap)["accuracy"] for cap in caps}
        figures["mechanism"] = mechanism_figures(model, split)
    if spec.data != FIXED:
        figures["by_length"] = {
            f"{low + 1}-{high}": quality(model, parity_strings(1000, 44, low + 1, high, width=model.config.seq_len))[
                "accuracy"
            ]
            for low, high in _quarters(model.config.seq_len)
        }
    return figures


def _quarters(length: int) -> list[tuple[int, int]]:
    edges = [length * part // 4 for part in range(5)]
    return list(pairwise(edges))
