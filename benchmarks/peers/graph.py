"""The padded graph as every peer runs it: the reader, then the trunk at the tape capacity, on one thread.

Runs in the peers' own environments: numpy and onnxruntime only.
"""

import json
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import that follows

import numpy as np
import onnxruntime

MAX_BATCH_SIZE = 64


class Padded:
    """Reader and largest trunk, named by the environment variable PADDED as JSON."""

    def __init__(self) -> None:
        place = json.loads(os.environ["PADDED"])
        self.shape = tuple(place["shape"])
        self._capacity = place["capacity"]
        self._reader, self._trunk = (_open(place[name]) for name in ("reader", "trunk"))

    def to_image(self, data: bytes) -> "np.ndarray":
        """Return one image's bytes as pixels."""
        return np.frombuffer(data, np.uint8).reshape(self.shape)

    def run(self, images: "np.ndarray") -> "np.ndarray":
        """Return the logits of a batch."""
        caps = np.full((len(images), 1), self._capacity, np.int32)
        hidden, tape, length = self._reader.run(["hidden", "tape", "tape_length"], {"image": images, "max_tape": caps})
        return self._trunk.run(["logits"], {"hidden": hidden, "tape": tape, "tape_length": length})[0]


def _open(path: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
