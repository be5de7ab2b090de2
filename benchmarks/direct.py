"""Runs the same graphs without a server: the best that the machine can do with them."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import that follows

import numpy as np
import onnxruntime

from benchmarks.cores import pin_to
from server.images import decode
from server.models.manifest import Manifest
from server.records import Floats, Ints, Pixels

BATCHES = (1, 2, 4, 8, 16, 32, 64)
MAX_PIXELS = 1 << 24


@dataclass(frozen=True, slots=True)
class Read:
    """What the reader gave for one batch."""

    hidden_BSD: Floats
    tape_BND: Floats
    tape_length_B1: Ints


class Graphs:
    """A family's reader and trunk in onnxruntime, with one thread."""

    def __init__(self, repository: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._reader = open_graph(repository / manifest.reader.files[0].path)
        self._trunk = open_graph(repository / manifest.trunk.files[0].path)

    def feeds(self, image_BHWC: Pixels, cap: int) -> dict[str, Any]:
        """Return what the reader takes."""
        return {"image": image_BHWC, "max_tape": np.full((len(image_BHWC), 1), cap, np.int32)}

    def read(self, image_BHWC: Pixels, cap: int) -> Read:
        return Read(*self._reader.run(["hidden", "tape", "tape_length"], self.feeds(image_BHWC, cap)))

    def trunk(self, hidden_BSD: Floats, tape_BTD: Floats, tape_length_B1: Ints) -> Floats:
        feeds = {"hidden": hidden_BSD, "tape": tape_BTD, "tape_length": tape_length_B1}
        logits_BC: Floats = self._trunk.run(["logits"], feeds)[0]
        return logits_BC

    def classify(self, image_BHWC: Pixels, *, batch: int, cap: int | None = None, pads: bool = False) -> Floats:
        """Answer many images in the fewest full batches: read all, sort by bucket, run each bucket's trunk.

        `pads` runs the largest bucket only. This knows all images beforehand, as no server does.
        """
        cap = self.manifest.tape_capacity if cap is None else cap
        reads = [self.read(image_BHWC[start : start + batch], cap) for start in range(0, len(image_BHWC), batch)]
        hidden = np.concatenate([read.hidden_BSD for read in reads])
        tape = np.concatenate([read.tape_BND for read in reads])
        length = np.concatenate([read.tape_length_B1 for read in reads])
        buckets = np.array([self.manifest.bucket_for(int(each)) for each in length[:, 0]])
        if pads:
            buckets[:] = self.manifest.tape_capacity
        logits = np.zeros((len(image_BHWC), len(self.manifest.labels)), np.float32)
        for bucket in np.unique(buckets):
            rows = np.flatnonzero(buckets == bucket)
            for start in range(0, len(rows), batch):
                some = rows[start : start + batch]
                logits[some] = self.trunk(hidden[some], tape[some, :bucket], length[some])
        return logits


def open_graph(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Open a graph on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


Rates = tuple[float, float]
"""Images a second of the clock, and of CPU time."""


class Direct:
    """A process of its own, pinned to the server's core, that runs the graphs without a server."""

    def __init__(
        self,
        repository: Path,
        manifest: Manifest,
        images: Pixels,
        jpegs: Sequence[bytes],
        core: int,
        *,
        is_cpu_time: bool = False,
    ) -> None:
        self._is_cpu_time = is_cpu_time
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_prepare, initargs=(repository, manifest, images, jpegs, core)
        )

    def rate(self, batch: int, seconds: float, *, cap: int | None = None, pads: bool = False) -> float:
        """Return images a second over all images, as often as the seconds allow."""
        return self._of(self._pool.submit(_rate, batch, seconds, cap, pads).result())

    def jpeg_rate(self, batch: int, seconds: float) -> float:
        """Return images a second from JPEG bytes to logits."""
        return self._of(self._pool.submit(_jpeg_rate, batch, seconds).result())

    def _of(self, rates: Rates) -> float:
        return rates[self._is_cpu_time]

    def best_batch(self, seconds: float, *, max_batch_size: int) -> int:
        """Return the batch size at which the images are answered fastest."""
        batches = [batch for batch in BATCHES if batch <= max_batch_size]
        return max(batches, key=lambda batch: self.rate(batch, seconds))

    def solo_s(self, count: int) -> list[float]:
        """Return the seconds from pixels to logits, one image at a time."""
        return self._pool.submit(_solo_s, count).result()

    def stage_s(self, cap: int, bucket: int, batch: int, seconds: float) -> tuple[float, float]:
        """Return the median seconds of one reader run at a cap and of one trunk run in a bucket."""
        return self._pool.submit(_stage_s, cap, bucket, batch, seconds).result()

    def lengths(self) -> list[int]:
        """Return the tape length of each image without a cap."""
        return self._pool.submit(_lengths).result()

    def close(self) -> None:
        self._pool.shutdown()


class _State:
    graphs: Graphs
    images: Pixels
    jpegs: Sequence[bytes]


def _prepare(repository: Path, manifest: Manifest, images: Pixels, jpegs: Sequence[bytes], core: int) -> None:
    pin_to(core)
    _State.graphs, _State.images, _State.jpegs = Graphs(repository, manifest), images, jpegs
    _State.graphs.classify(images[:64], batch=8)


def _rate(batch: int, seconds: float, cap: int | None, pads: bool) -> Rates:
    done, start_s, start_cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start_s < seconds:
        _State.graphs.classify(_State.images, batch=batch, cap=cap, pads=pads)
        done += len(_State.images)
    return done / (time.perf_counter() - start_s), done / (time.process_time() - start_cpu_s)


def _jpeg_rate(batch: int, seconds: float) -> Rates:
    target = _State.graphs.manifest.preprocessing
    done, start_s, start_cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start_s < seconds:
        images = np.stack([decode(jpeg, target, max_pixels=MAX_PIXELS).pixels_HW3 for jpeg in _State.jpegs])
        _State.graphs.classify(images, batch=batch)
        done += len(images)
    return done / (time.perf_counter() - start_s), done / (time.process_time() - start_cpu_s)


def _solo_s(count: int) -> list[float]:
    spent = []
    for number in range(count):
        image = _State.images[number % len(_State.images)][None]
        start_s = time.perf_counter()
        _State.graphs.classify(image, batch=1)
        spent.append(time.perf_counter() - start_s)
    return spent


def _lengths() -> list[int]:
    graphs, images = _State.graphs, _State.images
    reads = [
        graphs.read(images[start : start + 32], graphs.manifest.tape_capacity) for start in range(0, len(images), 32)
    ]
    return [int(length) for read in reads for length in read.tape_length_B1.ravel()]


def _stage_s(cap: int, bucket: int, batch: int, seconds: float) -> tuple[float, float]:
    graphs = _State.graphs
    images = np.resize(_State.images, (batch, *_State.images.shape[1:]))
    read = graphs.read(images, cap)
    tape, length = read.tape_BND[:, :bucket], np.minimum(read.tape_length_B1, bucket)
    reads: list[float] = []
    trunks: list[float] = []
    end_s = time.perf_counter() + seconds
    while not trunks or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        graphs.read(images, cap)
        middle_s = time.perf_counter()
        graphs.trunk(read.hidden_BSD, tape, length)
        reads.append(middle_s - start_s)
        trunks.append(time.perf_counter() - middle_s)
    return float(np.median(reads)), float(np.median(trunks))
