"""The official Flax model's config and parameters, as ours.

Source: scenic projects/adatape, config group `ac_config` and the parameter tree it initialises.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.config import ModelConfig, TapeConfig

Arrays = Mapping[str, NDArray[Any]]


def config_from_official(name: str, data: Mapping[str, Any]) -> ModelConfig:
    """Translate an official config into a `compat` one.

    Raises: ValueError naming a missing key, or a value that the official code cannot run.
    """
    try:
        return _model_config(name, data)
    except KeyError as error:
        raise ValueError(f"official config; got no key {error}; expected it") from None


def _model_config(name: str, data: Mapping[str, Any]) -> ModelConfig:
    kind, classifier = data["model"], str(data["classifier"])
    _check(kind in ("vit", "parity"), "model", kind, "vit or parity")
    is_image = kind == "vit"
    return ModelConfig(
        name,
        data["num_classes"],
        data["hidden_size"],
        data["num_layers"],
        data["num_heads"],
        data["mlp_dim"],
        input="image" if is_image else "parity",
        image_size=_side("image_size", data["image_size"]) if is_image else 0,
        patch=_side("patch_size", data["patch_size"]) if is_image else 1,
        seq_len=0 if is_image else data["seq_len"],
        pooling="token" if classifier == "0" else classifier,  # type: ignore[arg-type]  # checked by ModelConfig
        has_class_token=classifier == "token",
        tape=_tape_config(data["ac_config"]),
        compat=True,
    )


def _tape_config(data: Mapping[str, Any]) -> TapeConfig:
    is_learned = data["bank_type"] == "learn"
    return TapeConfig(
        capacity=data["num_tape_tokens"],
        layers=tuple(sorted(data["add_tape_token_to_layers"])),
        bank=data["bank_type"],
        bank_patch=_side("patch_bank_size", data.get("patch_bank_size", 1) if is_learned else data["patch_bank_size"]),
        bank_size=data["tape_bank_size"] if is_learned else 0,
        query="token" if data["query_type"] == "token" else "gap",
        key_split=data["split_tt"],
        tape_mlp_dim=data["tt_mlp_dim"],
        tape_ffn_dim=data["enc_tt_mlp_dim"],
        **_halting(data["dynamic_tape_length"]),
    )


def _halting(data: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the official code keeps in `dynamic_tape_length`; None reads a fixed length."""
    if data is None:
        return {"halting_threshold": None}
    _check(data["num_token_per_step"] == 1, "num_token_per_step", data["num_token_per_step"], "1")
    return {
        "halting_threshold": float(data["act_epsilon"]),
        "complex_query": bool(data["complex_query"]),
        "ponder": "entropy" if data["act_loss_type"] == "entropy" else "max",
    }


def _side(what: str, value: int | list[int]) -> int:
    sides = set(value) if isinstance(value, list) else {value}
    _check(len(sides) == 1, what, value, "a square")
    return int(sides.pop())


def state_from_flax(params: Arrays, config: ModelConfig) -> dict[str, Tensor]:
    """Return our state dict, using every Flax parameter exactly once.

    Raises: ValueError naming the parameters that are missing or left over.
    """
    tree = _Tree(params)
    state = dict(_parameters(tree, config))
    tree.check_empty()
    return state


class _Tree:
    """Flax parameters by path; each can be taken once."""

    def __init__(self, params: Arrays) -> None:
        self._left = dict(params)

    def take(self, path: str) -> Tensor:
        _check(path in self._left, "Flax parameters", f"no {path}", "it, once")
        return torch.from_numpy(np.asarray(self._left.pop(path), np.float32))

    def check_empty(self) -> None:
        _check(not self._left, "Flax parameters", f"unused {', '.join(sorted(self._left))}", "a use for each")


Pairs = Iterator[tuple[str, Tensor]]


def _parameters(tree: _Tree, config: ModelConfig) -> Pairs:
    yield from (_conv if config.input == "image" else _dense)(tree, "embedding", "embedding")
    if config.input == "image":
        yield "position", tree.take("posembed_input/pos_embedding")
    if config.has_class_token:
        yield "class_token", tree.take("cls")
    if config.tape:
        yield from _tape(tree, config, config.tape)
    for index in range(config.depth):
        yield from _block(tree, config, index)
    yield from _norm(tree, "Transformer/encoder_norm", "norm")
    yield from _dense(tree, "output_projection", "head")


def _tape(tree: _Tree, config: ModelConfig, tape: TapeConfig) -> Pairs:
    if tape.bank == "input":
        yield from _dense(tree, "pre_bank", "bank.project")
        if config.input == "image":
            yield from _conv(tree, "embedding_bank", "bank.embedding")
            yield "bank.position", tree.take("posembed_input_bank/pos_embedding")
    for index in range(len(tape.layers)):
        theirs = f"Transformer/AddTapeToken_{index}"
        yield from _norm(tree, f"{theirs}/TapeBank_0/bank_norm", f"readers.{index}.norm")
        if tape.bank == "learn":
            yield f"banks.{index}.entries", tree.take(f"{theirs}/TapeBank_0/tape_tokens")
        if tape.tape_mlp_dim:
            yield from _mlp(tree, f"{theirs}/MlpBlock_0", f"readers.{index}.mlp")


def _block(tree: _Tree, config: ModelConfig, index: int) -> Pairs:
    theirs, ours = f"Transformer/encoderblock_{index}", f"blocks.{index}"
    yield from _norm(tree, f"{theirs}/LayerNorm_0", f"{ours}.norm1")
    yield from _attention(tree, f"{theirs}/MultiHeadDotProductAttention_0", f"{ours}.attention", config.dim)
    yield from _norm(tree, f"{theirs}/LayerNorm_1", f"{ours}.norm2")
    yield from _mlp(tree, f"{theirs}/MlpBlock_0", f"{ours}.mlp")
    if config.tape and config.tape.tape_ffn_dim and index >= config.tape.layers[0]:
        yield from _mlp(tree, f"{theirs}/tape_mlp", f"{ours}.tape_mlp")


def _attention(tree: _Tree, theirs: str, ours: str, dim: int) -> Pairs:
    parts = [f"{theirs}/{name}" for name in ("query", "key", "value")]
    yield f"{ours}.qkv.weight", torch.cat([tree.take(f"{part}/kernel").reshape(dim, dim).T for part in parts])
    yield f"{ours}.qkv.bias", torch.cat([tree.take(f"{part}/bias").reshape(dim) for part in parts])
    yield f"{ours}.out.weight", tree.take(f"{theirs}/out/kernel").reshape(dim, dim).T
    yield f"{ours}.out.bias", tree.take(f"{theirs}/out/bias")


def _mlp(tree: _Tree, theirs: str, ours: str) -> Pairs:
    yield from _dense(tree, f"{theirs}/Dense_0", f"{ours}.up")
    yield from _dense(tree, f"{theirs}/Dense_1", f"{ours}.down")


def _dense(tree: _Tree, theirs: str, ours: str) -> Pairs:
    yield f"{ours}.weight", tree.take(f"{theirs}/kernel").T
    yield f"{ours}.bias", tree.take(f"{theirs}/bias")


def _conv(tree: _Tree, theirs: str, ours: str) -> Pairs:
    yield f"{ours}.weight", tree.take(f"{theirs}/kernel").permute(3, 2, 0, 1)
    yield f"{ours}.bias", tree.take(f"{theirs}/bias")


def _norm(tree: _Tree, theirs: str, ours: str) -> Pairs:
    yield f"{ours}.weight", tree.take(f"{theirs}/scale")
    yield f"{ours}.bias", tree.take(f"{theirs}/bias")


def _check(is_valid: bool, what: str, got: object, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{what}; got {got}; expected {expected}")
