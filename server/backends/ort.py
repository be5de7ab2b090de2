"""The embedded backend on the CPU: onnxruntime, two sessions a family, so one copy of the weights for all buckets.

The trunk has a symbolic tape dimension and is run at bucket sizes only (docs/adr on weight sharing).
`Session.run` releases the interpreter lock, so instances share the sessions.
"""

import os
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import that follows

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as status

from server.backends.base import Hidden, ReaderOutput
from server.errors import BackendFailed
from server.host import files
from server.models.manifest import GraphSpec, Manifest
from server.records import Floats, Inputs, Ints

READER_OUTPUTS = ["hidden", "tape", "tape_length", "tape_length_wanted", "picks", "pick_weights"]
TRUNK_INPUTS = ["hidden", "tape", "tape_length"]
TRUNK_OUTPUTS = ["logits"]

LOG_ERRORS_ONLY = 3

LOAD_FAULTS = (
    status.EPFail,
    status.EngineError,
    status.Fail,
    status.InvalidArgument,
    status.InvalidGraph,
    status.InvalidProtobuf,
    status.NoModel,
    status.NoSuchFile,
    status.NotImplemented,
    status.RuntimeException,
)


class OrtModel:
    """A family's reader and trunk sessions."""

    is_ready = True

    def __init__(
        self, reader: onnxruntime.InferenceSession, trunk: onnxruntime.InferenceSession, input_name: str
    ) -> None:
        self._reader = reader
        self._input = input_name
        self._trunk = trunk
        self.device: str = trunk.get_providers()[0]

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        return ReaderOutput(*self._reader.run(READER_OUTPUTS, {self._input: inputs_BX, "max_tape": max_tape_B1}))

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        feeds = {"hidden": hidden_BSD, "tape": tape_BTD, "tape_length": tape_length_B1}
        logits_BC: Floats = self._trunk.run(TRUNK_OUTPUTS, feeds)[0]
        return logits_BC


class OrtBackend:
    """Loads families from a model repository onto the CPU."""

    def __init__(self, root: Path, *, num_threads: int) -> None:
        self._root = root
        self._options = session_options(num_threads)

    def load(self, manifest: Manifest) -> OrtModel:
        reader = self._open(manifest.reader, [manifest.input.name, "max_tape"], READER_OUTPUTS)
        trunk = self._open(manifest.trunk, TRUNK_INPUTS, TRUNK_OUTPUTS)
        return OrtModel(reader, trunk, manifest.input.name)

    def _open(self, graph: GraphSpec, inputs: list[str], outputs: list[str]) -> onnxruntime.InferenceSession:
        return open_session(self._root, graph, self._options, ["CPUExecutionProvider"], inputs, outputs)


def open_session(
    root: Path, graph: GraphSpec, options: Any, providers: list[Any], inputs: list[str], outputs: list[str]
) -> onnxruntime.InferenceSession:
    """Open a graph of a model repository.

    Raises: BackendFailed if it cannot be loaded, or has other inputs or outputs.
    """
    try:
        for file in graph.files:
            files.check_regular(root / file.path)  # onnxruntime opens whatever has taken its place by now
        session = onnxruntime.InferenceSession(root / graph.files[0].path, options, providers=providers)
    except (OSError, *LOAD_FAULTS) as error:
        raise BackendFailed(f"graph {graph.name}", str(error), "one that onnxruntime loads") from error
    for what, wanted, nodes in (
        ("inputs", inputs, session.get_inputs()),
        ("outputs", outputs, session.get_outputs()),
    ):
        names = [node.name for node in nodes]
        if sorted(names) != sorted(wanted):
            raise BackendFailed(f"{what} of graph {graph.name}", names, str(wanted))
    return session


def session_options(num_threads: int) -> Any:
    """Return options for a session that shares the machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS_ONLY
    # Spinning burns the cores that the event loop and other instances need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def is_cuda_offered() -> bool:
    """Say whether this onnxruntime was built for GPUs; whether there is one, only a session tells."""
    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
