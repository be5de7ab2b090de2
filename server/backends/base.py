"""The interface of a backend: it loads a model, which can `read` and `run_trunk` on whole batches of numpy arrays.

Shapes: B batch, H height, W width, S input tokens, N tape capacity, T tape in this bucket, K reads per step,
D dim, C classes.
"""

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from server.errors import OutOfMemory
from server.models.manifest import Manifest
from server.records import Floats, Inputs, Ints

_NO_MEMORY = re.compile(r"allocate memory|out of memory|bad[ _]alloc", re.IGNORECASE)

Hidden = NDArray[Any]
"""Activations between the stages, in the graphs' own float type."""

EXECUTION_TIMEOUT_S: ContextVar[float | None] = ContextVar("execution_timeout_s", default=None)
"""How long the execution on this thread may take, for backends that can cancel one that takes longer."""
COLD_EXECUTION_S = 10.0
"""How long the first execution of a graph may take."""


@dataclass(frozen=True, slots=True)
class ReaderOutput:
    """What the reader decided for a batch.

    Shapes: hidden_BSD; tape_BND, rows past a sample's length zero; tape_length_B1 after the cap;
    tape_length_wanted_B1 by halting alone, 0 where nothing was read; picks_BNK and pick_weights_BNK.
    """

    hidden_BSD: Hidden
    tape_BND: Hidden
    tape_length_B1: Ints
    tape_length_wanted_B1: Ints
    picks_BNK: Ints
    pick_weights_BNK: Floats


class Model(Protocol):
    """One loaded version of a family. Both verbs may be called from several threads at once."""

    device: str
    """What really runs it, for instance `CPUExecutionProvider`."""

    @property
    def is_ready(self) -> bool:
        """Say whether its server can be reached; requests are refused while it cannot. Local models are always up."""
        ...

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        """Read the tape of a batch. Caps are all 0 (nothing is read, and nothing paid for it) or all above 0."""
        ...

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        """Return logits_BC. T is a bucket, 0 included, and holds every tape length of the batch."""
        ...


class Backend(Protocol):
    """Loads versions of families."""

    def load(self, manifest: Manifest) -> Model:
        """Load and return a model that is ready to run; the caller drops it to unload.

        Raises: ServeError if the graphs cannot be loaded or do not match their manifest.
        """
        ...


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an execution failed because memory ran out. Runtimes have no error type for it, only a message."""
    return isinstance(error, OutOfMemory | MemoryError) or bool(_NO_MEMORY.search(str(error)))


def warm(model: Model, manifest: Manifest) -> None:
    """Run every stage and bucket once, so that no caller pays for first-time allocation."""
    inputs_BX = np.zeros((1, *manifest.input.shape), manifest.input.dtype)
    for cap in (0, manifest.tape_capacity):
        reading = model.read(inputs_BX, np.full((1, 1), cap, np.int32))
    for bucket in manifest.buckets:
        length_B1 = np.full((1, 1), bucket, np.int32)
        model.run_trunk(reading.hidden_BSD, reading.tape_BND[:, :bucket], length_B1)
