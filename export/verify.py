"""The graphs against the model they came from: output by output, end to end, and whatever the batch.

Shape legend: B batch, S input tokens, N tape capacity, T tape in this run, D dim, C classes.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from adatape.model import AdaTape
from export.errors import ExportError
from export.images import MIN_MARGIN, Pixels, decided_images, noise, own_reading, pixels_of, scenes
from export.runtime import Array, Reading, Runtime

TOLERANCE = 1e-4
SHARE = 1e-5
"""Of the largest value, for the stream between the halves: it is not normalised, and fp32 itself rounds by about
that (torch's own fp32 is 2e-4 from double precision where values reach 90)."""
EXACT = ("tape_length", "tape_length_wanted", "picks")
BATCHES = (1, 3, 16)
MAKERS = (noise, scenes)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: the largest absolute difference found, and the largest allowed."""

    graph: str
    output: str
    case: str
    batch: int
    error: float
    tolerance: float

    @property
    def has_passed(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        where = f"{self.graph} {self.output} ({self.case}, batch {self.batch})"
        return f"{where}; got error {self.error:.3g}; expected at most {self.tolerance:.3g}"


class Mismatch(ExportError):
    """Graphs that do not compute what the model does."""

    def __init__(self, failed: list[Check]) -> None:
        self.failed = failed
        super().__init__("\n".join(["verification failed:", *(f"  {check}" for check in failed)]))


@torch.no_grad()
def verify(model: AdaTape, runtime: Runtime, *, trunk_tolerance: float = TOLERANCE) -> list[Check]:
    """Return every comparison made, all passed.

    The trunks may be allowed more where they are of lower precision; the reader never is.
    Raises: Mismatch naming graph, output, case, batch, error and tolerance of each that failed;
    ExportError if the model's reading is a toss-up on most images.
    """
    exact = in_double(model)
    checks = []
    for seed, maker in enumerate(MAKERS):
        images = decided_images(exact, maker, max(BATCHES), seed=seed)
        whole = whole_answers(exact, images)
        for batch in BATCHES:
            for graph, output, case, pair in _found(exact, runtime, images[:batch], whole, trunk_tolerance):
                checks.append(Check(graph, output, f"{maker.__name__}, {case}", batch, *pair))
    failed = [check for check in checks if not check.has_passed]
    if failed:
        raise Mismatch(failed)
    return checks


def in_double(model: AdaTape) -> AdaTape:
    """Return a copy that computes in double precision, so that only the graphs' own rounding is seen.

    Reading stays as it is: it is fp32 by its own definition.
    """
    exact = copy.deepcopy(model).double()
    exact.readers.float()
    return exact


def whole_answers(exact: AdaTape, images: Pixels) -> list[Array]:
    """Return the whole model's logits_BC for every cap from 0 on."""
    pixels_BHWC = pixels_of(exact, images)
    caps = (torch.full((len(images),), cap) for cap in range(exact.config.capacity + 1))
    return [exact(pixels_BHWC, cap_B).logits_BC.float().numpy() for cap_B in caps]


Found = Iterator[tuple[str, str, str, tuple[float, float]]]
"""graph, output, case; error and tolerance."""


def _found(exact: AdaTape, runtime: Runtime, images: Pixels, whole: list[Array], tolerance: float) -> Found:
    yield from _reader_checks(exact, runtime, images)
    yield from _trunk_checks(exact, runtime, images, tolerance)
    yield from _whole_checks(runtime, images, whole, tolerance)
    yield from _alone_checks(runtime, images, tolerance)


def _reader_checks(exact: AdaTape, runtime: Runtime, images: Pixels) -> Found:
    batch, capacity = len(images), exact.config.capacity
    mixed_B = np.random.default_rng(batch).integers(0, capacity + 1, batch)
    caps = {"no cap": np.full(batch, capacity), "cap 0": np.zeros(batch, np.int64), "mixed caps": mixed_B}
    for case, cap_B in caps.items():
        found = runtime.read(images, cap_B)
        for output, expected in model_reading(exact, images, cap_B).items():
            yield runtime.names.reader, output, case, (difference(expected, found[output]), _allowed(output, expected))


def _allowed(output: str, expected: Array) -> float:
    if output in EXACT:
        return 0.0
    return max(TOLERANCE, SHARE * float(np.abs(expected).max(initial=0.0))) if output == "hidden" else TOLERANCE


def _trunk_checks(exact: AdaTape, runtime: Runtime, images: Pixels, tolerance: float) -> Found:
    """Compare both forms of the trunk at every bucket, on tapes that fill it and tapes that do not."""
    names = runtime.names
    for bucket in names.buckets:
        cap_B = np.random.default_rng(bucket).integers(0, bucket + 1, len(images))
        cap_B[0] = bucket
        reading = model_reading(exact, images, cap_B)
        hidden_BSD, tape_BND, length_B1 = (
            torch.from_numpy(reading[name]) for name in ("hidden", "tape", "tape_length")
        )
        expected = exact.trunk(hidden_BSD.double(), tape_BND[:, :bucket], length_B1[:, 0]).float().numpy()
        for graph, run in ((names.trunk, runtime.trunk), (names.static(bucket), runtime.static_trunk)):
            yield graph, "logits", f"bucket {bucket}", (difference(expected, run(reading, bucket)), tolerance)


def _whole_checks(runtime: Runtime, images: Pixels, whole: list[Array], tolerance: float) -> Found:
    """Compare reader and trunks together with the whole model, at every cap."""
    for cap, expected in enumerate(whole):
        error = difference(expected[: len(images)], runtime.answer(images, cap)[0])
        yield runtime.names.family, "logits", f"cap {cap}", (error, tolerance)


def _alone_checks(runtime: Runtime, images: Pixels, tolerance: float) -> Found:
    """Compare each answer with the same image answered alone: batch-mates and their caps must not matter."""
    cap_B = np.arange(len(images)) % (runtime.names.buckets[-1] + 1)
    logits_BC, reading = runtime.answer(images, cap_B)
    alone = [runtime.answer(images[row : row + 1], cap_B[row]) for row in range(len(images))]
    alone_BC = np.concatenate([logits for logits, _ in alone])
    yield runtime.names.family, "logits", "alone", (difference(alone_BC, logits_BC), tolerance)
    for output in EXACT:
        rows = np.concatenate([row[output] for _, row in alone])
        yield runtime.names.reader, output, "alone", (difference(rows, reading[output]), 0.0)


def model_reading(model: AdaTape, images: Pixels, cap_B: Array) -> Reading:
    """Return what the reader graph has to answer, from the model itself."""
    max_tape_B = torch.from_numpy(cap_B)
    read = own_reading(model, images, max_tape_B)
    has_read_B = max_tape_B > 0
    slots_BN1 = (torch.arange(model.config.capacity) < read.length_B[:, None])[..., None]
    reading = {
        "hidden": model.embed(pixels_of(model, images)).float(),
        "tape": read.tape_BND,
        "tape_length": read.length_B[:, None].int(),
        "tape_length_wanted": (read.wanted_B * has_read_B)[:, None].int(),
        "picks": torch.where(slots_BN1, read.picks_BNK, -1).int(),
        "pick_weights": read.weights_BNK * slots_BN1,
    }
    return {name: value.numpy() for name, value in reading.items()}


def difference(expected: Array, found: Array) -> float:
    """Return the largest absolute difference; infinite if type or shape differ, or a number is not finite."""
    if expected.shape != found.shape or expected.dtype != found.dtype or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(expected.astype(np.float64) - found).max(initial=0.0))


def summary(checks: list[Check]) -> str:
    """Return one line a graph: its largest error, and how much was compared."""
    worst: dict[str, Check] = {}
    for check in checks:
        kept = worst.setdefault(check.graph, check)
        worst[check.graph] = check if check.error > kept.error else kept
    lines = [
        f"  {graph:32} max error {check.error:.2e} ({check.output}, {check.case})" for graph, check in worst.items()
    ]
    margin = f"on images whose reading is decided by more than {MIN_MARGIN:g}"
    return "\n".join([f"verified: {len(checks)} comparisons, picks and lengths exact {margin}", *lines])
