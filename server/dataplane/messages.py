"""One inference as every transport brings it, and what each takes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from server.dataplane.tensors import Buffer, Tensor
from server.records import Ask

if TYPE_CHECKING:
    from server.dataplane.signature import Layout, TensorSpec
    from server.engine.families import Family


Plans = WeakKeyDictionary["Family", "Plan"]
"""What was worked out about a call from all but its tensors' bytes, by family."""


MAX_DIMS = 8
"""Of a tensor, whatever its model."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class Input:
    """One input tensor, not yet judged: `raw` is its binary form, else `values` are its elements, flat."""

    name: str
    datatype: str
    shape: Sequence[int]
    raw: Buffer | None = None
    values: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """One output that the caller wants; with `num_classes` above 0 as strings of its best classes."""

    name: str
    num_classes: int = 0


@dataclass(slots=True, eq=False)
class Plan:
    """A call, judged by all but its tensors' bytes: what it asks, where its inputs lie and which outputs it wants."""

    ask: Ask
    layout: "Layout"
    chosen: Sequence[tuple["TensorSpec", int]]
    labels: Sequence[str]


@dataclass(slots=True)  # not frozen, as a receipt is not
class OipRequest:
    """One call for an inference. No outputs means all of them.

    Units: arrival_s is on the monotonic clock; time_left_s is what the transport's own deadline leaves.
    """

    model: str
    version: str | None
    inputs: Sequence[Input]
    request_id: str
    arrival_s: float
    protocol: str
    outputs: Sequence[Output] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Budget parameters that came beside the message, in headers; the message's own win."""
    time_left_s: float | None = None
    tenant: str | None = None
    plans: Plans | None = None
    """Shared by all calls that differ in their tensors' bytes alone."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class OipResponse:
    """The answer to a call: its outputs in the order asked, and its receipt as response parameters."""

    model: str
    version: str
    outputs: list[Tensor]
    parameters: dict[str, str | int | float]
