"""Torch halves to ONNX graphs: small, portable, and the same bytes every time.

`ir_version` 10 and opset 20 are what the onnxruntime of Triton 2.51 reads; opset 20 is the first with Gelu.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import ir
from torch import Tensor, nn

from adatape.model import AdaTape
from export.modules import BareTrunkHalf, ReaderHalf, TrunkHalf

OPSET, IR_VERSION = 20, 10

INPUT_NAMES = {"image": "image", "parity": "symbols"}
READER_OUTPUTS = ("hidden", "tape", "tape_length", "tape_length_wanted", "picks", "pick_weights")
TRUNK_INPUTS = ("hidden", "tape", "tape_length")
TRUNK_OUTPUTS = ("logits",)

TRACED_BATCH = 3
"""Any size from 2 on: 0 and 1 would be taken for constants."""
FOLD_LIMIT = 2**30
"""Elements up to which constants are folded: every transposed weight."""


def reader_graph(model: AdaTape) -> onnx.ModelProto:
    """Return the reader: pixels or symbols, and caps in, hidden and tape out."""
    config = model.config
    side = config.image_size
    is_image = config.input == "image"
    shape, dtype = ((side, side, 3), torch.uint8) if is_image else ((config.seq_len,), torch.int8)
    inputs_BX = torch.zeros(TRACED_BATCH, *shape, dtype=dtype)
    max_tape_B1 = torch.ones(TRACED_BATCH, 1, dtype=torch.int32)
    inputs = (INPUT_NAMES[config.input], "max_tape")
    return export_module(ReaderHalf(model), inputs, READER_OUTPUTS, (inputs_BX, max_tape_B1))


def trunk_graph(model: AdaTape, bucket: int | None = None) -> onnx.ModelProto:
    """Return the trunk of a bucket, or with a symbolic tape dimension; that of bucket 0 takes `hidden` only."""
    config = model.config
    hidden_BSD = torch.zeros(TRACED_BATCH, config.num_tokens, config.dim)
    if bucket == 0:
        return export_module(BareTrunkHalf(model), TRUNK_INPUTS[:1], TRUNK_OUTPUTS, (hidden_BSD,))
    num_slots = bucket or max(2, config.capacity)
    tape_BTD = torch.zeros(TRACED_BATCH, num_slots, config.dim)
    tape_length_B1 = torch.ones(TRACED_BATCH, 1, dtype=torch.int32)
    arguments = (hidden_BSD, tape_BTD, tape_length_B1)
    return export_module(TrunkHalf(model), TRUNK_INPUTS, TRUNK_OUTPUTS, arguments, is_symbolic=bucket is None)


def export_module(
    half: nn.Module,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    arguments: tuple[Tensor, ...],
    *,
    is_symbolic: bool = False,
) -> onnx.ModelProto:
    """Return a module as a graph of whatever batch; with `is_symbolic`, of whatever tape as well."""
    batch = torch.export.Dim("batch", min=1, max=2**20)
    shapes: list[dict[int, Any]] = [{0: batch} for _ in arguments]
    if is_symbolic:
        shapes[inputs.index("tape")][1] = torch.export.Dim("tape_slots", min=0, max=2**20)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            half.eval(),
            arguments,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(shapes),
        )
        assert program is not None, "This is a bug."
        onnxscript.optimizer.optimize_ir(program.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    return with_own_weights(stripped(ir.to_proto(program.model)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, and its warnings about packages it does not need, off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def stripped(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Drop, in place, what a graph tells of its making: source paths, stack traces, intermediate shapes.

    Raises: ValueError if the graph asks for a newer onnxruntime than we promise.
    """
    if graph.ir_version > IR_VERSION or any(opset.domain or opset.version > OPSET for opset in graph.opset_import):
        opsets = [(opset.domain, opset.version) for opset in graph.opset_import]
        raise ValueError(f"graph; got ir_version {graph.ir_version}, opsets {opsets}; expected {IR_VERSION}, {OPSET}")
    graph.doc_string = ""
    del graph.metadata_props[:]
    _strip_graph(graph.graph)
    onnx.checker.check_model(graph)
    return graph


def with_own_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move, in place, the weights that one branch alone uses into that branch.

    onnxruntime lays convolutions out in blocks only where their weights stand in the same graph: a bank whose
    convolutions took them from outside would take two thirds longer.
    """
    graph = model.graph
    branches = [each.g for node in graph.node for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]
    users = [_used_names(graph), *map(_used_names, branches)]
    owner = {name: branch for branch, own in zip(branches, users[1:], strict=True) for name in own}
    stays: list[onnx.TensorProto] = []
    for weights in graph.initializer:
        is_shared = sum(weights.name in names for names in users) != 1
        (stays if is_shared or weights.name in users[0] else owner[weights.name].initializer).append(weights)
    del graph.initializer[:]
    graph.initializer.extend(stays)
    onnx.checker.check_model(model)
    return model


def _used_names(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input} | {output.name for output in graph.output}


def _strip_graph(graph: onnx.GraphProto) -> None:
    graph.doc_string = ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for part in (*graph.input, *graph.output, *graph.initializer, *graph.node):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.type == onnx.AttributeProto.GRAPH:
                _strip_graph(attribute.g)
