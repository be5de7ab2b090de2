"""The plain data that travels along the request path.

Terms: a *request* is one call and holds one or more *samples*; a *cap* is the
largest tape a sample may read; a *receipt* says what its answer cost.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Inputs = NDArray[np.uint8] | NDArray[np.int8]
"""A batch as the reader takes it: pixels, or symbols."""
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class BudgetReason(StrEnum):
    """Who set a sample's effective cap: the rule that bound it."""

    REQUESTED = "requested"  # the caller's max_tape, max_flops or min_accuracy
    POLICY = "policy"  # the tenant's ceiling
    DEGRADED = "degraded"  # the controller's current cap
    DEADLINE = "deadline"  # the slack left before the caller's deadline
    QUOTA = "quota"  # the tenant's FLOP quota
    MODEL = "model"  # nothing bound it: the model's own tape capacity


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits that a caller sets for one request; None where it sets none.

    Units: max_flops is useful FLOPs a sample; deadline_s is seconds after arrival;
    min_accuracy is a fraction on the model's quality curve.
    """

    max_tape: int | None = None
    max_flops: float | None = None
    deadline_s: float | None = None
    min_accuracy: float | None = None
    priority: Priority = Priority.NORMAL

    def deadline_at(self, arrival_s: float) -> float:
        """Return the monotonic time of the deadline of what arrived then, infinity if it has none."""
        return inf if self.deadline_s is None else arrival_s + self.deadline_s


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One admitted call: its samples and what the caller asked for them.

    Shapes: inputs_BX is the batch in the model's input layout (uint8 [B,H,W,3] for images);
    max_tape_B, when given, caps each sample on its own, beside `ask.max_tape`.
    Units: arrival_s is on the monotonic clock.
    """

    request_id: str
    model: str
    inputs_BX: NDArray[Any]
    arrival_s: float
    ask: RequestLimits = field(default_factory=RequestLimits)
    max_tape_B: tuple[int, ...] | None = None
    version: str | None = None
    explain: bool = False
    protocol: str = "classify"
    tenant: str | None = None
    """Whose quota is charged; None where callers are not told apart."""

    @property
    def num_samples(self) -> int:
        return len(self.inputs_BX)


@dataclass(slots=True)  # not frozen: creating a frozen instance takes several times as long, and each sample gets one
class Receipt:
    """What one sample's answer cost, and why it was given that much. It is never changed.

    Units: FLOPs count a multiply-add as 2; useful is at the sample's own tape length,
    executed is what really ran for it (its bucket, its share of batch padding). Seconds
    are monotonic intervals; `total_s` runs from arrival to settlement.
    `tape_length_wanted` is None when the tape was never read (cap 0).
    """

    model: str
    version: str
    cap: int
    budget_reason: BudgetReason
    tape_length: int
    tape_length_wanted: int | None
    bucket: int
    useful_flops: int
    executed_flops: int
    queue_s: float
    read_s: float
    trunk_s: float
    total_s: float


@dataclass(slots=True)  # not frozen, as a receipt is not
class Sample:
    """The answer for one sample. It is never changed.

    Shapes: logits_C (classes,); picks_NK and pick_weights_NK (tape capacity, reads per step),
    bank entries and their weights for each tape token, only when the request asked to explain.
    """

    logits_C: Floats
    receipt: Receipt
    picks_NK: Ints | None = None
    pick_weights_NK: Floats | None = None


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The answers of one request, in the order of its samples."""

    request_id: str
    model: str
    version: str
    samples: tuple[Sample, ...]
