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
from export.images import MIN_MARGIN, Inputs, decided_inputs, inputs_of, makers_of, own_reading
from export.runtime import Array, Reading, Runtime

TOLERANCE = 1e-4
SHARE = 1e-5
"""Of the largest value, for the stream between the halves: it is not normalised, and fp32 itself rounds by about
that (torch's own fp32 is 2e-4 from double precision where values reach 90)."""
EXACT = ("tape_length", "tape_length_wanted", "picks")
BATCHES = (1, 3, 16)


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
    ExportError if the model's reading is a toss-up on most inputs.
    """
    exact = in_double(model)
    checks = []
    for seed, maker in enumerate(makers_of(model)):
        inputs = decided_inputs(exact, maker, max(BATCHES), seed=seed)
        whole = whole_answers(exact, inputs)
        for batch in BATCHES:
            for graph, output, case, pair in _found(exact, runtime, inputs[:batch], whole, trunk_tolerance):
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


def whole_answers(exact: AdaTape, inputs: Inputs) -> list[Array]:
    """Return the whole model's logits_BC for every cap from 0 on."""
    inputs_BX = inputs_of(exact, inputs)
    caps = (torch.full((len(inputs),), cap) for cap in range(exact.config.capacity + 1))
    return [exact(inputs_BX, cap_B).logits_BC.float().numpy() for cap_B in caps]


Found = Iterator[tuple[str, str, str, tuple[float, float]]]
"""graph, output, case; error and tolerance."""


def _found(exact: AdaTape, runtime: Runtime, inputs: Inputs, whole: list[Array], tolerance: float) -> Found:
    yield from _reader_checks(exact, runtime, inputs)
    yield from _trunk_checks(exact, runtime, inputs, tolerance)
    yield from _whole_checks(runtime, inputs, whole, tolerance)
    yield from _alone_checks(exact, runtime, inputs, tolerance)


def _reader_checks(exact: AdaTape, runtime: Runtime, inputs: Inputs) -> Found:
    batch, capacity = len(inputs), exact.config.capacity
    mixed_B = np.random.default_rng(batch).integers(0, capacity + 1, batch)
    caps = {"no cap": np.full(batch, capacity), "cap 0": np.zeros(batch, np.int64), "mixed caps": mixed_B}
    for case, cap_B in caps.items():
        found = with_entries(exact, inputs, runtime.read(inputs, cap_B))
        for output, expected in with_entries(exact, inputs, model_reading(exact, inputs, cap_B)).items():
            yield runtime.names.reader, output, case, (difference(expected, found[output]), _allowed(output, expected))


def _allowed(output: str, expected: Array) -> float:
    if output in EXACT:
        return 0.0
    return max(TOLERANCE, SHARE * float(np.abs(expected).max(initial=0.0))) if output == "hidden" else TOLERANCE


def _trunk_checks(exact: AdaTape, runtime: Runtime, inputs: Inputs, tolerance: float) -> Found:
    """Compare both forms of the trunk at every bucket, on tapes that fill it and tapes that do not."""
    names = runtime.names
    for bucket in names.buckets:
        cap_B = np.random.default_rng(bucket).integers(0, bucket + 1, len(inputs))
        cap_B[0] = bucket
        reading = model_reading(exact, inputs, cap_B)
        hidden_BSD, tape_BND, length_B1 = (
            torch.from_numpy(reading[name]) for name in ("hidden", "tape", "tape_length")
        )
        expected = exact.trunk(hidden_BSD.double(), tape_BND[:, :bucket], length_B1[:, 0]).float().numpy()
        for graph, run in ((names.trunk, runtime.trunk), (names.static(bucket), runtime.static_trunk)):
            yield graph, "logits", f"bucket {bucket}", (difference(expected, run(reading, bucket)), tolerance)


def _whole_checks(runtime: Runtime, inputs: Inputs, whole: list[Array], tolerance: float) -> Found:
    """Compare reader and trunks together with the whole model, at every cap."""
    for cap, expected in enumerate(whole):
        error = difference(expected[: len(inputs)], runtime.answer(inputs, cap)[0])
        yield runtime.names.family, "logits", f"cap {cap}", (error, tolerance)


def _alone_checks(exact: AdaTape, runtime: Runtime, inputs: Inputs, tolerance: float) -> Found:
    """Compare each answer with the same image answered alone: batch-mates and their caps must not matter."""
    cap_B = np.arange(len(inputs)) % (runtime.names.buckets[-1] + 1)
    logits_BC, reading = runtime.answer(inputs, cap_B)
    alone = [runtime.answer(inputs[row : row + 1], cap_B[row]) for row in range(len(inputs))]
    alone_BC = np.concatenate([logits for logits, _ in alone])
    yield runtime.names.family, "logits", "alone", (difference(alone_BC, logits_BC), tolerance)
    rows = {output: np.concatenate([row[output] for _, row in alone]) for output in EXACT}
    together, apart = (with_entries(exact, inputs, one) for one in (reading, rows))
    for output in EXACT:
        yield runtime.names.reader, output, "alone", (difference(apart[output], together[output]), 0.0)


def model_reading(model: AdaTape, inputs: Inputs, cap_B: Array) -> Reading:
    """Return what the reader graph has to answer, from the model itself."""
    max_tape_B = torch.from_numpy(cap_B)
    read = own_reading(model, inputs, max_tape_B)
    has_read_B = max_tape_B > 0
    slots_BN1 = (torch.arange(model.config.capacity) < read.length_B[:, None])[..., None]
    reading = {
        "hidden": model.embed(inputs_of(model, inputs)).float(),
        "tape": read.tape_BND,
        "tape_length": read.length_B[:, None].int(),
        "tape_length_wanted": (read.wanted_B * has_read_B)[:, None].int(),
        "picks": torch.where(slots_BN1, read.picks_BNK, -1).int(),
        "pick_weights": read.weights_BNK * slots_BN1,
    }
    return {name: value.numpy() for name, value in reading.items()}


def with_entries(model: AdaTape, inputs: Inputs, reading: Reading) -> Reading:
    """Return a reading whose picks say which symbol was read, where equal symbols are equal entries; else as it is."""
    if model.config.input == "image":
        return reading
    picks_BNK = reading["picks"]
    rows_B11 = np.arange(len(picks_BNK))[:, None, None]
    return {**reading, "picks": np.where(picks_BNK < 0, picks_BNK, inputs[rows_B11, picks_BNK] + 1)}


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
    margin = f"on inputs whose reading is decided by more than {MIN_MARGIN:g}"
    return "\n".join([f"verified: {len(checks)} comparisons, picks and lengths exact {margin}", *lines])
