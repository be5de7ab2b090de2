"""What stands in the graphs: portable, small, the same bytes every time, and nothing of the machine."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.graphs import IR_VERSION, OPSET, reader_graph, stripped, trunk_graph
from export.names import Names
from export.precision import Graphs
from export.run import Run
from export.runtime import Runtime
from tests.export.conftest import BUCKETS, CONFIG, TAPE

MACHINE = re.compile(rb"/home/|/root|/tmp|/usr|/opt|/work|site-packages|\.py\b|\.\./", re.IGNORECASE)


def load(repository: Path, names: Names, model: str) -> onnx.ModelProto:
    return onnx.load(repository / names.path(model))


def dims(ports) -> dict[str, list[int | str]]:
    shapes = {port.name: port.type.tensor_type.shape.dim for port in ports}
    return {name: [dim.dim_param or dim.dim_value for dim in shape] for name, shape in shapes.items()}


def count_nodes(graph: onnx.GraphProto) -> int:
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(count_nodes, inner))


def branch_of(graph: onnx.GraphProto, name: str) -> onnx.GraphProto:
    (branch,) = [node for node in graph.node if node.op_type == "If"]
    return next(attribute.g for attribute in branch.attribute if attribute.name == name)


def test_old_runtimes_can_read_every_graph(repository, names):
    for model in names.graphs:
        graph = load(repository, names, model)
        assert graph.ir_version <= IR_VERSION
        assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]


def test_reader_takes_pixels_and_caps_in_any_batch(repository, names):
    graph = load(repository, names, names.reader).graph
    side, slots = CONFIG.image_size, [TAPE.capacity, TAPE.reads_per_step]
    assert dims(graph.input) == {"image": ["batch", side, side, 3], "max_tape": ["batch", 1]}
    assert dims(graph.output) == {
        "hidden": ["batch", CONFIG.num_tokens, CONFIG.dim],
        "tape": ["batch", TAPE.capacity, CONFIG.dim],
        "tape_length": ["batch", 1],
        "tape_length_wanted": ["batch", 1],
        "picks": ["batch", *slots],
        "pick_weights": ["batch", *slots],
    }


def test_trunks_fix_the_tape_dimension_and_nothing_else(repository, names):
    hidden = ["batch", CONFIG.num_tokens, CONFIG.dim]
    for bucket in BUCKETS[1:]:
        graph = load(repository, names, names.static(bucket)).graph
        shapes = {"hidden": hidden, "tape": ["batch", bucket, CONFIG.dim], "tape_length": ["batch", 1]}
        assert dims(graph.input) == shapes
        assert dims(graph.output) == {"logits": ["batch", CONFIG.num_classes]}
    assert dims(load(repository, names, names.static(0)).graph.input) == {"hidden": hidden}
    symbolic = dims(load(repository, names, names.trunk).graph.input)
    assert symbolic["tape"] == ["batch", "tape_slots", CONFIG.dim]


def test_reading_is_skipped_by_a_branch_that_computes_nothing(repository, names):
    skip = branch_of(load(repository, names, names.reader).graph, "else_branch")
    assert {node.op_type for node in skip.node} <= {"Shape", "Concat", "ConstantOfShape", "Expand", "Identity"}


def test_a_step_of_reading_is_seven_nodes(repository, names):
    graph = load(repository, names, names.reader).graph
    read = branch_of(graph, "then_branch")
    assert sum(node.op_type == "TopK" for node in read.node) == TAPE.capacity
    assert count_nodes(read) <= 7 * TAPE.capacity + 60


def test_weights_stand_in_the_branch_that_alone_uses_them(repository, names):
    graph = load(repository, names, names.reader).graph
    read, skip = branch_of(graph, "then_branch"), branch_of(graph, "else_branch")
    inside = {tensor.name for tensor in read.initializer}
    bank = {name for node in read.node if node.op_type == "Conv" for name in node.input[1:]}
    assert bank
    assert bank <= inside
    used = [{name for node in each.node for name in node.input} for each in (graph, skip)]
    assert not inside & set().union(*used)


def test_normalisation_is_one_node_and_batch_norm_none(repository, names):
    kinds = [node.op_type for node in load(repository, names, names.trunk).graph.node]
    assert kinds.count("LayerNormalization") == 5
    assert kinds.count("Gelu") == 2
    reader = load(repository, names, names.reader).SerializeToString()
    assert b"BatchNormalization" not in reader


def test_all_trunks_have_the_same_weights_file(repository, names):
    contents = {(repository / names.path(model, "weights.bin")).read_bytes() for model in names.trunks}
    assert len(contents) == 1


def test_no_file_tells_of_the_machine(repository):
    files = [path for path in repository.rglob("*") if path.is_file() and path.name not in ("model.py", "weights.bin")]
    assert len(files) > 12
    assert not [(path.name, found.group()) for path in files if (found := MACHINE.search(path.read_bytes()))]


def test_equal_models_give_equal_bytes(run: Run, graphs: Graphs, repository, names):
    reader = reader_graph(run.model).SerializeToString(deterministic=True)
    assert reader == (repository / names.path(names.reader)).read_bytes()
    again, trunk = trunk_graph(run.model, 4).graph, graphs[names.static(4)].graph
    assert list(again.node) == list(trunk.node)
    weights = [[(tensor.name, tensor.raw_data) for tensor in graph.initializer] for graph in (again, trunk)]
    assert weights[0] == weights[1]


def test_an_empty_tape_runs(runtime: Runtime):
    reading = runtime.read(np.zeros((2, CONFIG.image_size, CONFIG.image_size, 3), np.uint8), 0)
    np.testing.assert_allclose(runtime.trunk(reading, 0), runtime.static_trunk(reading, 0), atol=1e-6)
    assert runtime.trunk(reading, 0).shape == (2, CONFIG.num_classes)


def test_newer_graphs_than_promised_are_refused(repository, names):
    graph = load(repository, names, names.reader)
    graph.ir_version = IR_VERSION + 1
    with pytest.raises(ValueError, match="got ir_version 11"):
        stripped(graph)


def test_stripping_reaches_into_branches():
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Constant", [], ["y"], value_float=1.0)],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [])],
    )
    inner.node[0].doc_string = "File here"
    inner.node[0].metadata_props.add(key="trace", value="here")
    node = onnx.helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    ports = [[onnx.helper.make_tensor_value_info(*info)] for info in (("c", 9, []), ("z", 1, []))]
    graph = onnx.helper.make_model(
        onnx.helper.make_graph([node], "outer", *ports),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    assert b"here" not in stripped(graph).SerializeToString()
