"""One file of weights for all trunks of a family (docs/adr/0004)."""

import hashlib
from collections.abc import Iterable, Iterator

import onnx

from export.names import WEIGHTS

MIN_EXTERNAL_BYTES = 256
"""Smaller initialisers, shapes and scalars, stay in the graph."""
ALIGNMENT = 64
"""Bytes; a cache line, so that weights can be used where they are mapped."""


def share_weights(graphs: Iterable[onnx.ModelProto]) -> bytes:
    """Move the weights of all graphs, in place, into the one file that is returned; equal tensors are stored once.

    The layout follows the order of the graphs and of their initialisers, so equal graphs give equal bytes.
    """
    content = bytearray()
    places: dict[bytes, int] = {}
    for graph in graphs:
        for tensor in _large_initializers(graph):
            data = tensor.raw_data
            digest = hashlib.sha256(data).digest()
            if digest not in places:
                content += bytes(-len(content) % ALIGNMENT)
                places[digest] = len(content)
                content += data
            _point(tensor, offset=places[digest], length=len(data))
    return bytes(content)


def _large_initializers(graph: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in graph.graph.initializer if len(tensor.raw_data) >= MIN_EXTERNAL_BYTES)


def _point(tensor: onnx.TensorProto, *, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
