"""The one file of weights: equal tensors once, the rest in order, small ones left in their graph."""

import numpy as np
import onnx
from onnx import numpy_helper

from export.weights import ALIGNMENT, share_weights

LARGE = np.arange(200, dtype=np.float32)
OTHER = np.ones((11, 11), np.float32)
SMALL = np.zeros(3, np.float32)


def graph_of(**tensors: np.ndarray) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializers))


def place(graph: onnx.ModelProto, name: str) -> tuple[int, int]:
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name == name)
    fields = {entry.key: entry.value for entry in tensor.external_data}
    assert fields["location"] == "weights.bin"
    return int(fields["offset"]), int(fields["length"])


def test_equal_tensors_are_stored_once():
    first, second = graph_of(a=LARGE, b=OTHER), graph_of(c=OTHER, d=LARGE)
    content = share_weights([first, second])
    assert place(first, "a") == place(second, "d") == (0, LARGE.nbytes)
    assert place(first, "b") == place(second, "c")
    assert len(content) == place(first, "b")[0] + OTHER.nbytes


def test_content_is_found_where_it_is_pointed_to():
    graph = graph_of(a=OTHER, b=LARGE)
    content = share_weights([graph])
    offset, length = place(graph, "b")
    assert offset % ALIGNMENT == 0
    np.testing.assert_array_equal(np.frombuffer(content[offset : offset + length], np.float32), LARGE)


def test_small_tensors_stay():
    graph = graph_of(a=SMALL)
    assert share_weights([graph]) == b""
    np.testing.assert_array_equal(numpy_helper.to_array(graph.graph.initializer[0]), SMALL)
