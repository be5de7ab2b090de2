"""The reader taken apart is the reader up to its bank, and its share is what its steps add."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.direct import open_graph
from benchmarks.reading import Spent

onnx = pytest.importorskip("onnx", reason="onnx is of the training environment")
from benchmarks.reader_graph import count_nodes, cut_at_bank, reading_branch  # noqa: E402 - needs onnx

READER = Path(__file__).parents[2] / "model_repository/adatape_cifar10_reader/1/model.onnx"


def test_the_cut_embeds_as_the_reader_does_and_ends_at_the_bank() -> None:
    reader = onnx.load(READER)
    cut = cut_at_bank(reader)
    kinds = {node.op_type for node in cut.graph.node}
    assert "Conv" in kinds
    assert not kinds & {"If", "TopK"}
    feeds = {"image": np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)}
    feeds["max_tape"] = np.full((2, 1), 16, np.int32)
    hidden, *starts = open_graph(cut.SerializeToString()).run(None, feeds)
    np.testing.assert_allclose(hidden, open_graph(READER).run(["hidden"], feeds)[0], atol=1e-5)
    assert {start.shape for start in starts} == {(2, 64, 192), (2, 192)}


def test_every_step_is_left_out() -> None:
    reader = onnx.load(READER)
    steps = [node for node in reading_branch(reader).node if node.op_type == "TopK"]
    assert count_nodes(reader.graph) - count_nodes(cut_at_bank(reader).graph) > 5 * len(steps)


def test_another_graph_is_no_reader() -> None:
    with pytest.raises(ValueError, match="reader; got 0 branches"):
        reading_branch(onnx.ModelProto())


def test_a_share_is_what_reading_adds_to_the_bank() -> None:
    assert Spent([1.0, 1.0], [2.0, 3.0], [10.0, 10.0]).shares == [0.1, 0.2]
