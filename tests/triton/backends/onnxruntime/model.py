"""Triton's onnxruntime backend for machines that lack the native one: same repository, same config.pbtxt.

A Python-based backend: Triton starts one process an instance, which opens the version's graph on the CPU and runs the
requests of a batch as one execution. For tests only.
"""

import json
import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import that follows

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance of one graph."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph beside this version's files."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        graph = Path(pb_utils.get_model_dir(), "model.onnx")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._inputs = [port["name"] for port in json.loads(args["model_config"])["input"]]
        self._outputs = [output.name for output in self._session.get_outputs()]

    def execute(self, requests: list) -> list:
        """Run the rows of all requests together and hand each its own."""
        feeds_of = [self._feeds(request) for request in requests]
        rows_of = [len(feeds[self._inputs[0]]) for feeds in feeds_of]
        feeds = {name: np.concatenate([feeds[name] for feeds in feeds_of]) for name in self._inputs}
        results = self._session.run(self._outputs, feeds)
        starts = np.cumsum([0, *rows_of[:-1]])
        return [
            self._response(request, results, slice(start, start + rows))
            for request, start, rows in zip(requests, starts, rows_of, strict=True)
        ]

    def _feeds(self, request: object) -> dict[str, np.ndarray]:
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

    def _response(self, request: object, results: list, rows: slice) -> object:
        """Return the outputs that a request asked for, in its own rows."""
        wanted = set(request.requested_output_names())
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(result[rows]))
                for name, result in zip(self._outputs, results, strict=True)
                if name in wanted
            ]
        )
