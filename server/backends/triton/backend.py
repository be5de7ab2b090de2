"""The backend whose graphs run on Triton Inference Servers; budgets, batches and receipts stay with the engine."""

from collections.abc import Sequence

import numpy as np

from server.backends.base import Hidden, ReaderOutput
from server.backends.triton.address import Arrays, TritonAddress
from server.backends.triton.pool import TritonPool
from server.metrics import Metrics
from server.models.manifest import Manifest
from server.records import Floats, Inputs, Ints

READER_OUTPUTS = ["hidden", "tape", "tape_length", "tape_length_wanted", "picks", "pick_weights"]


class TritonModel:
    """One version of a family, by the names that its graphs have in the model repository."""

    device = "triton"

    def __init__(self, pool: TritonPool, manifest: Manifest) -> None:
        self._pool = pool
        self._reader = manifest.reader.name
        self._trunks = {bucket: spec.name for bucket, spec in zip(manifest.buckets, manifest.trunks, strict=True)}
        self._version = manifest.version
        self._input = manifest.input.name

    @property
    def is_ready(self) -> bool:
        return self._pool.is_up

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        feeds: Arrays = {self._input: inputs_BX, "max_tape": max_tape_B1}
        return ReaderOutput(*self._pool.run(self._reader, self._version, feeds, READER_OUTPUTS))

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        bucket = tape_BTD.shape[1]
        feeds: Arrays = {"hidden": hidden_BSD}
        if bucket > 0:
            feeds = {"hidden": hidden_BSD, "tape": tape_BTD, "tape_length": tape_length_B1}
        (logits_BC,) = self._pool.run(self._trunks[bucket], self._version, feeds, ["logits"])
        return np.asarray(logits_BC, np.float32)


class TritonBackend:
    """Runs the graphs of a model repository on Tritons that serve the same repository."""

    def __init__(self, addresses: Sequence[str], *, timeout_s: float, metrics: Metrics | None = None) -> None:
        self._pool = TritonPool([TritonAddress(name) for name in addresses], timeout_s, metrics=metrics)

    def load(self, manifest: Manifest) -> TritonModel:
        return TritonModel(self._pool, manifest)

    def close(self) -> None:
        """Close the connections to the Tritons."""
        self._pool.close()
