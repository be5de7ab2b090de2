"""One batch on its way through a backend: gather its rows, run, and refuse to believe nonsense.

Runs on an instance's thread and touches nothing that the event loop changes.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.backends.base import EXECUTION_TIMEOUT_S, Model, ReaderOutput
from server.engine.families import Family
from server.engine.jobs import Entry, EntryBatch
from server.errors import BackendFailed
from server.models.manifest import Manifest
from server.records import Floats, Ints
from server.scheduler import Stage

Array = NDArray[Any]


class Execution:
    """A batch, then its outcome: `reading` or `logits_BC` and `is_finite_B`, or `error`.

    Units: monotonic seconds; `taken_s` is how long it kept its instance from others, from when that was free and this
    waited until the event loop took it back: what waits behind it waits that long, graphs or not.
    """

    def __init__(self, batch: EntryBatch, family: Family, clock: Callable[[], float]) -> None:
        self.batch = batch
        self.family = family
        self._clock = clock
        self.started_s = self.finished_s = 0.0
        self.patience_s: float | None = None
        """How long the backend may take, where the watchdog has said."""
        self.taken_s = 0.0
        self.reading: ReaderOutput | None = None
        self.logits_BC: Floats | None = None
        self.is_finite_B: list[bool] = []
        self.is_over = False
        """Whether it ran to its end; one that was given up meanwhile has its outcome already."""
        self.error: Exception | None = None
        self._end = Lock()

    def claim(self) -> bool:
        """Say whether the caller is the first to claim the end: the thread that ran it, or whoever gives it up."""
        return self._end.acquire(blocking=False)

    def run(self) -> None:
        """Run the batch; whatever goes wrong becomes `error`, for the engine to settle with."""
        self.started_s = self._clock()
        EXECUTION_TIMEOUT_S.set(self.patience_s)
        error: Exception | None = None
        try:
            self._run()
        except Exception as caught:  # noqa: BLE001 - a failing batch must cost its own requests only
            error = caught
        self.finished_s = self._clock()
        self.is_over = self.claim()
        if self.is_over:
            self.error = error

    def _run(self) -> None:
        entries, model, manifest = self.batch.tickets, self.family.model, self.family.manifest
        if self.batch.stage is Stage.TRUNK:
            self.logits_BC = run_trunk(entries, self.batch.bucket, model)
            check_logits(self.logits_BC, len(entries), manifest)
            self.is_finite_B = np.logical_and.reduce(np.isfinite(self.logits_BC), axis=1).tolist()
        else:
            max_tape_B1 = column(entry.cap for entry in entries)
            images_BHWC = stack_rows([(entry.job.request.inputs_BX, entry.index) for entry in entries])
            self.reading = model.read(images_BHWC, max_tape_B1)
            check_reading(self.reading, max_tape_B1, manifest)


def run_trunk(entries: list[Entry], bucket: int, model: Model) -> Floats:
    """Gather the rows that the reader left, from however many reader batches, and run the trunk over them."""
    places = [(entry.reading, entry.row) for entry in entries if entry.reading is not None]
    hidden_BSD = stack_rows([(reading.hidden_BSD, row) for reading, row in places])
    tape_BTD = stack_rows([(reading.tape_BND, row) for reading, row in places], bucket)
    return model.run_trunk(hidden_BSD, tape_BTD, column(entry.tape_length for entry in entries))


def column(values: Iterable[int]) -> Ints:
    """Return integers as the [B,1] tensor that graphs take."""
    return np.fromiter(values, np.int32).reshape(-1, 1)


def stack_rows(places: list[tuple[Array, int]], limit: int | None = None) -> Array:
    """Return the named rows as one batch, each cut to its first `limit` items where one is given.

    Neighbouring rows of one array are taken as a slice: a batch that is one request's whole input is not copied.
    """
    parts: list[Array] = []
    start = 0
    for end in range(1, len(places) + 1):
        source, row = places[end - 1]
        if end < len(places) and places[end][0] is source and places[end][1] == row + 1:
            continue
        first = places[start][1]
        parts.append(source[first : row + 1] if limit is None else source[first : row + 1, :limit])
        start = end
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_reading(reading: ReaderOutput, max_tape_B1: Ints, manifest: Manifest) -> None:
    """Hold a reading against its promise.

    Raises: BackendFailed.
    """
    num_rows = len(max_tape_B1)
    expected = {
        "hidden": (reading.hidden_BSD, (num_rows, manifest.num_tokens, manifest.dim)),
        "tape": (reading.tape_BND, (num_rows, manifest.tape_capacity, manifest.dim)),
        "tape_length": (reading.tape_length_B1, (num_rows, 1)),
        "tape_length_wanted": (reading.tape_length_wanted_B1, (num_rows, 1)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise BackendFailed(f"shape of {name}", list(array.shape), str(list(shape)))
    limit_B1 = np.minimum(max_tape_B1, manifest.tape_capacity)
    if (reading.tape_length_B1 < 0).any() or (reading.tape_length_B1 > limit_B1).any():
        raise BackendFailed("tape_length", reading.tape_length_B1.ravel().tolist(), f"0 to {limit_B1.ravel().tolist()}")


def check_logits(logits_BC: Floats, num_rows: int, manifest: Manifest) -> None:
    """Hold logits against their promise.

    Raises: BackendFailed.
    """
    shape = (num_rows, len(manifest.labels))
    if logits_BC.shape != shape:
        raise BackendFailed("shape of logits", list(logits_BC.shape), str(list(shape)))
