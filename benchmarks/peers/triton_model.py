"""Triton: its Python backend over onnxruntime, dynamic batching without delay."""

import numpy as np
import triton_python_backend_utils as pb
from graph import Padded


class TritonPythonModel:
    def initialize(self, args: dict) -> None:
        del args
        self.graph = Padded()

    def execute(self, requests: list) -> list:
        batches = [pb.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        logits = self.graph.run(np.concatenate(batches))
        ends = np.cumsum([len(batch) for batch in batches])[:-1]
        return [pb.InferenceResponse([pb.Tensor("logits", rows)]) for rows in np.split(logits, ends)]
