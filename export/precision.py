"""Trunks of lower precision. The reader stays fp32, so every precision reads the same tape.

int8: products with weights on 8-bit integers, scales fixed beforehand: what a sample answers cannot depend on its
batch-mates or its bucket, as it would with scales taken from each batch.
fp16: for GPUs; inputs and outputs stay fp32, so the graphs have the same signature.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxscript import ir

from export.errors import ExportError
from export.graphs import stripped
from export.images import Pixels
from export.names import Names
from export.runtime import Array, Runtime

Precision = Literal["fp32", "fp16", "int8"]
Graphs = dict[str, onnx.ModelProto]
Ranges = dict[bytes, tuple[Any, Any]]

TRUNK_TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 0.1, "int8": 1.0}
"""Largest difference of a logit. Below fp32 it only finds graphs that are broken: what the loss of precision costs,
the quality curve says."""

CALIBRATION_BATCH = 32
PRODUCTS = ("MatMul", "Gemm")


def fp16_trunks(trunks: Graphs) -> Graphs:
    """Return the trunks computing in half precision."""
    return {
        name: _finished(convert_float_to_float16(_copy(graph), keep_io_types=True)) for name, graph in trunks.items()
    }


def int8_trunks(trunks: Graphs, names: Names, runtime: Runtime, image_BHWC: Pixels) -> Graphs:
    """Return the trunks with 8-bit products, their scales calibrated on images that no curve is measured on.

    Raises: ExportError if a bucket's graph has a product that the symbolic trunk, which is calibrated, does not have.
    """
    ranges = _calibrated(trunks[names.trunk], _Feeds(runtime, image_BHWC))
    return {name: _finished(_quantized(graph, name, ranges)) for name, graph in trunks.items()}


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """The trunk's inputs for calibration: with an empty tape, and for every bucket tapes as that bucket sees them."""

    def __init__(self, runtime: Runtime, image_BHWC: Pixels) -> None:
        self._feeds = self._all(runtime, image_BHWC)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)

    @staticmethod
    def _all(runtime: Runtime, image_BHWC: Pixels) -> Iterator[dict[str, Array]]:
        buckets = runtime.names.buckets
        for start in range(0, len(image_BHWC), CALIBRATION_BATCH):
            for cap in buckets:
                reading = runtime.read(image_BHWC[start : start + CALIBRATION_BATCH], cap)
                tape_BTD = reading["tape"][:, : max(cap, buckets[1])]
                yield {**{name: reading[name] for name in ("hidden", "tape_length")}, "tape": tape_BTD}


def _calibrated(trunk: onnx.ModelProto, feeds: _Feeds) -> Ranges:
    """Return the range that the input of each product takes, by the weight that it is multiplied with.

    By weight, not by name: an activation is called otherwise where no tape has to be cut off it.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trunk.onnx")
        onnx.save(trunk, path)
        method = CalibrationMethod.MinMax
        augmented = str(Path(folder, "augmented.onnx"))
        calibrator = create_calibrator(path, list(PRODUCTS), augmented, calibrate_method=method)
        calibrator.collect_data(feeds)
        found = calibrator.compute_data()
    return {weight: found[node.input[0]].range_value for node, weight in _products(trunk)}


def _products(graph: onnx.ModelProto) -> list[tuple[onnx.NodeProto, bytes]]:
    """Return the products with a weight, and that weight's content."""
    weights = {tensor.name: tensor.raw_data for tensor in graph.graph.initializer}
    nodes = (node for node in graph.graph.node if node.op_type in PRODUCTS)
    return [(node, weights[node.input[1]]) for node in nodes if node.input[1] in weights]


def _quantized(graph: onnx.ModelProto, name: str, ranges: Ranges) -> onnx.ModelProto:
    products = _products(graph)
    unknown = [node.name for node, weight in products if weight not in ranges]
    if unknown:
        raise ExportError.of(f"int8 {name}", f"products {unknown}", "only those of the trunk that was calibrated")
    quantizer = QDQQuantizer(
        _copy(graph),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax, {node.input[0]: ranges[weight] for node, weight in products}
        ),
        nodes_to_quantize=[node.name for node, _ in products],
        nodes_to_exclude=[],
        op_types_to_quantize=list(PRODUCTS),
        extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _finished(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Put nodes that a converter added at the end where they belong, and check the graph."""
    model = ir.from_proto(graph)
    model.graph.sort()
    return stripped(ir.to_proto(model))


def _copy(graph: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def calibration_images(images: Pixels, count: int = 256) -> Pixels:
    """Return the images that scales are calibrated on: the same ones every time."""
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    return images[np.sort(chosen)]
