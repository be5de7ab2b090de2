"""Faults on demand for the fake backend, to test what happens to requests when a device misbehaves.

A plan names the faults that may happen, such as `raise,nan,slow=0.01`:

    raise     reading a batch with a marked image raises
    hang      the trunk never returns a batch that holds a marked image
    nan       a marked image's logits are NaN; those of other images in its batch are not
    shape     a batch with a marked image has one row of logits too few
    crash     reading a marked image kills the process
    block     reading a marked image blocks the event loop
    oom=N     a batch of more than N images does not fit into memory
    slow=S    each execution takes S seconds more

An image is marked by its first pixel, whose red and green are `MARK` and whose blue is the fault's number in `MARKS`.
"""

import os
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.backends.base import Hidden, Model, ReaderOutput
from server.errors import BackendFailed, OutOfMemory
from server.records import Floats, Inputs, Ints

MARK = (250, 251)
MARKS = {"raise": 1, "hang": 2, "nan": 3, "shape": 4, "crash": 5, "block": 6}
HANG_S = 3600.0
_BLOCK = signal.SIGUSR1


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults may happen. Units: seconds; 0 for `max_batch_size` means that every batch fits."""

    kinds: frozenset[str] = frozenset()
    max_batch_size: int = 0
    slow_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "FaultPlan":
        """Read a plan, such as `raise,oom=8`; the settings have checked its form."""
        values = dict(item.partition("=")[::2] for item in text.split(",") if item)
        return cls(frozenset(values) & MARKS.keys(), int(values.get("oom", 0)), float(values.get("slow", 0)))


def prepare_to_block() -> None:
    """Make the signal of that fault known; Python runs its handlers on the main thread, as the event loop.

    Raises: ValueError on another thread.
    """
    signal.signal(_BLOCK, lambda *_: time.sleep(HANG_S))


class FaultyModel:
    """A model that misbehaves as a plan says."""

    is_ready = True

    def __init__(self, model: Model, plan: FaultPlan) -> None:
        self.device = model.device
        self._model = model
        self._plan = plan

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        self._slow_down_or_fail(len(inputs_BX))
        first_BC = inputs_BX[:, 0, 0]
        if self._is_marked("raise", first_BC).any():
            raise RuntimeError("a fault that was asked for")
        if self._is_marked("crash", first_BC).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if self._is_marked("block", first_BC).any():
            os.kill(os.getpid(), _BLOCK)
        return self._model.read(inputs_BX, max_tape_B1)

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        self._slow_down_or_fail(len(hidden_BSD))
        first_BC = np.rint(hidden_BSD[:, 0, :3] * 255).astype(np.uint8)
        if self._is_marked("hang", first_BC).any():
            threading.Event().wait(HANG_S)
            raise BackendFailed("fake backend", "a hanging batch", "its instance to be replaced meanwhile")
        logits_BC = self._model.run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        logits_BC[self._is_marked("nan", first_BC)] = np.nan
        return logits_BC[1:] if self._is_marked("shape", first_BC).any() else logits_BC

    def _slow_down_or_fail(self, num_rows: int) -> None:
        if self._plan.slow_s > 0:
            time.sleep(self._plan.slow_s)
        if 0 < self._plan.max_batch_size < num_rows:
            raise OutOfMemory("batch", f"{num_rows} images", f"at most {self._plan.max_batch_size}")

    def _is_marked(self, kind: str, first_BC: Inputs) -> NDArray[np.bool_]:
        """Return which rows of first pixels bear the mark of a fault that the plan allows."""
        if kind not in self._plan.kinds:
            return np.zeros(len(first_BC), np.bool_)
        marked_B: NDArray[np.bool_] = (first_BC == (*MARK, MARKS[kind])).all(axis=1)
        return marked_B
