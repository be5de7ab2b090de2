"""The exported graphs on onnxruntime, called as the server calls them.

Shape legend: B batch, S input tokens, N tape capacity, T tape in this run, D dim, C classes.
"""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.graphs import READER_OUTPUTS
from export.names import Names

NUM_THREADS = 1
LOG_ERRORS_ONLY = 3

Array = NDArray[Any]
Reading = dict[str, Array]
"""The reader's outputs by name."""


class Runtime:
    """The sessions of one version of a family."""

    def __init__(self, root: Path, names: Names) -> None:
        self.root = root
        self.names = names
        self._reader = _open(root / names.path(names.reader))
        self._input = next(node.name for node in self._reader.get_inputs() if node.name != "max_tape")
        self._trunk = _open(root / names.path(names.trunk))
        self._static = {bucket: _open(root / names.path(names.static(bucket))) for bucket in names.buckets}

    def read(self, inputs_BX: Array, cap_B: Array | int) -> Reading:
        """Run the reader; one cap for all samples or one each."""
        max_tape_B1 = np.broadcast_to(cap_B, len(inputs_BX)).astype(np.int32)[:, None]
        outputs = self._reader.run(READER_OUTPUTS, {self._input: inputs_BX, "max_tape": max_tape_B1})
        return dict(zip(READER_OUTPUTS, outputs, strict=True))

    def trunk(self, reading: Reading, bucket: int) -> Array:
        """Return logits_BC of the trunk with the symbolic tape dimension."""
        return _logits(self._trunk, _trunk_feeds(reading, bucket))

    def static_trunk(self, reading: Reading, bucket: int) -> Array:
        """Return logits_BC of the bucket's own graph."""
        feeds = _trunk_feeds(reading, bucket)
        return _logits(self._static[bucket], feeds if bucket else {"hidden": feeds["hidden"]})

    def finish(self, reading: Reading) -> Array:
        """Return logits_BC: for each bucket, its own graph over the rows whose tape it is the smallest to hold."""
        bucket_B = np.array([self.names.bucket_for(length) for length in reading["tape_length"][:, 0]])
        rows_of = {int(bucket): np.flatnonzero(bucket_B == bucket) for bucket in np.unique(bucket_B)}
        parts = [
            self.static_trunk({name: value[rows] for name, value in reading.items()}, bucket)
            for bucket, rows in rows_of.items()
        ]
        order = np.argsort(np.concatenate(list(rows_of.values())))
        logits_BC: Array = np.concatenate(parts)[order]
        return logits_BC

    def answer(self, inputs_BX: Array, cap_B: Array | int) -> tuple[Array, Reading]:
        """Return logits_BC and the reading."""
        reading = self.read(inputs_BX, cap_B)
        return self.finish(reading), reading


def hardware() -> str:
    """Return the processor and its number of cores; never a host's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {max(1, len(models))} cores"


def runtime_version() -> str:
    """Return what the graphs run on."""
    return f"onnxruntime {onnxruntime.__version__} CPU"


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = NUM_THREADS
    options.log_severity_level = LOG_ERRORS_ONLY
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _trunk_feeds(reading: Reading, bucket: int) -> dict[str, Array]:
    return {"hidden": reading["hidden"], "tape": reading["tape"][:, :bucket], "tape_length": reading["tape_length"]}


def _logits(session: onnxruntime.InferenceSession, feeds: dict[str, Array]) -> Array:
    logits_BC: Array = session.run(["logits"], feeds)[0]
    return logits_BC
