"""The fake family as two real ONNX graphs: the same arithmetic, the shipped graphs' names, dtypes and branch."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server.backends.fake import NUM_CLASSES, READS_PER_STEP, SIDE_PX, TAPE_CAPACITY

FLOAT, INT, BYTE, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL


def constant(name: str, value: Any, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def save(path, nodes, inputs, outputs, constants) -> None:
    tensors = [[helper.make_tensor_value_info(*info) for info in infos] for infos in (inputs, outputs)]
    graph = helper.make_graph(nodes, path.stem, *tensors, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def save_reader(path) -> None:
    """Save a reader that skips the reading, in an If, when every cap of the batch is 0."""
    node = helper.make_node
    reads = [
        node("Mul", ["row_ones", "mean"], ["mean_1"]),
        node("Add", ["mean_1", "one"], ["mean_2"]),
        node("Div", ["mean_2", "sixteen"], ["steps"]),
        node("Max", ["steps", "one"], ["then_wanted"]),
    ]
    skips = [node("Mul", ["max_tape", "zero"], ["else_wanted"])]
    branch = [
        helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, INT, ["B", 1])])
        for nodes, name, output in [(reads, "read", "then_wanted"), (skips, "skip", "else_wanted")]
    ]
    nodes = [
        node("Flatten", ["image"], ["flat_bytes"], axis=1),
        node("Cast", ["flat_bytes"], ["flat"], to=FLOAT),
        node("ReduceMean", ["flat"], ["mean_f"], axes=[1], keepdims=1),
        node("Cast", ["mean_f"], ["mean"], to=INT),
        node("Slice", ["flat", "start", "stop", "axis"], ["first"]),
        node("Div", ["first", "full"], ["scores"]),
        node("Unsqueeze", ["scores", "axis"], ["hidden"]),
        node("ReduceMax", ["max_tape"], ["largest"], keepdims=0),
        node("Greater", ["largest", "zero"], ["is_reading"]),
        node("Mul", ["max_tape", "zero"], ["row_zeros"]),
        node("Add", ["row_zeros", "one"], ["row_ones"]),
        node("If", ["is_reading"], ["tape_length_wanted"], then_branch=branch[0], else_branch=branch[1]),
        node("Min", ["tape_length_wanted", "max_tape"], ["tape_length"]),
        node("Less", ["steps_1N", "tape_length"], ["used_b"]),
        node("Cast", ["used_b"], ["used_f"], to=FLOAT),
        node("Unsqueeze", ["used_f", "last"], ["used"]),
        node("Mul", ["hidden", "used"], ["tape"]),
        node("Mul", ["weights_NK", "used"], ["pick_weights"]),
        node("Cast", ["used"], ["used_i"], to=INT),
        node("Mul", ["picks_NK", "used_i"], ["picks"]),
    ]
    steps_NK = np.arange(TAPE_CAPACITY * READS_PER_STEP).reshape(TAPE_CAPACITY, READS_PER_STEP)
    constants = [
        constant("zero", 0, np.int32),
        constant("one", 1, np.int32),
        constant("sixteen", TAPE_CAPACITY, np.int32),
        constant("full", 255, np.float32),
        constant("start", [0], np.int64),
        constant("stop", [NUM_CLASSES], np.int64),
        constant("axis", [1], np.int64),
        constant("last", [2], np.int64),
        constant("steps_1N", [range(TAPE_CAPACITY)], np.int32),
        constant("picks_NK", steps_NK, np.int32),
        constant("weights_NK", np.full_like(steps_NK, 1) / READS_PER_STEP, np.float32),
    ]
    tape = ["B", TAPE_CAPACITY]
    outputs = [
        ("hidden", FLOAT, ["B", 1, NUM_CLASSES]),
        ("tape", FLOAT, [*tape, NUM_CLASSES]),
        ("tape_length", INT, ["B", 1]),
        ("tape_length_wanted", INT, ["B", 1]),
        ("picks", INT, [*tape, READS_PER_STEP]),
        ("pick_weights", FLOAT, [*tape, READS_PER_STEP]),
    ]
    inputs = [("image", BYTE, ["B", SIDE_PX, SIDE_PX, 3]), ("max_tape", INT, ["B", 1])]
    save(path, nodes, inputs, outputs, constants)


def save_trunk(path, tape_name: str = "tape") -> None:
    """Save a trunk with a symbolic tape dimension, 0 included."""
    node = helper.make_node
    nodes = [
        node("Shape", [tape_name], ["shape"]),
        node("Gather", ["shape", "one"], ["T"]),
        node("Range", ["zero", "T", "one"], ["steps_64"]),
        node("Cast", ["steps_64"], ["steps"], to=INT),
        node("Less", ["steps", "tape_length"], ["used_b"]),
        node("Cast", ["used_b"], ["used_f"], to=FLOAT),
        node("Unsqueeze", ["used_f", "last"], ["used"]),
        node("Mul", [tape_name, "used"], ["masked"]),
        node("ReduceSum", ["masked", "axis"], ["tape_sum"], keepdims=0),
        node("ReduceSum", ["hidden", "axis"], ["hidden_sum"], keepdims=0),
        node("Add", ["hidden_sum", "tape_sum"], ["logits"]),
    ]
    constants = [
        constant("zero", 0, np.int64),
        constant("one", 1, np.int64),
        constant("axis", [1], np.int64),
        constant("last", [2], np.int64),
    ]
    inputs = [
        ("hidden", FLOAT, ["B", 1, NUM_CLASSES]),
        (tape_name, FLOAT, ["B", "T", NUM_CLASSES]),
        ("tape_length", INT, ["B", 1]),
    ]
    save(path, nodes, inputs, [("logits", FLOAT, ["B", NUM_CLASSES])], constants)


def save_static_trunk(path, bucket: int) -> None:
    """Save the trunk of one bucket; that of bucket 0 takes no tape."""
    node = helper.make_node
    last = "hidden_sum" if bucket else "logits"
    nodes = [node("ReduceSum", ["hidden", "axis"], [last], keepdims=0)]
    constants = [constant("axis", [1], np.int64)]
    inputs = [("hidden", FLOAT, ["B", 1, NUM_CLASSES])]
    if bucket:
        nodes += [
            node("Less", ["steps", "tape_length"], ["used_b"]),
            node("Cast", ["used_b"], ["used_f"], to=FLOAT),
            node("Unsqueeze", ["used_f", "last"], ["used"]),
            node("Mul", ["tape", "used"], ["masked"]),
            node("ReduceSum", ["masked", "axis"], ["tape_sum"], keepdims=0),
            node("Add", ["hidden_sum", "tape_sum"], ["logits"]),
        ]
        constants += [constant("last", [2], np.int64), constant("steps", [range(bucket)], np.int32)]
        inputs += [("tape", FLOAT, ["B", bucket, NUM_CLASSES]), ("tape_length", INT, ["B", 1])]
    save(path, nodes, inputs, [("logits", FLOAT, ["B", NUM_CLASSES])], constants)
