"""One inference as every transport brings it, and what each takes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from server.dataplane.signature import InputLayout, TensorSpec
from server.dataplane.tensors import InputTensor, OutputTensor, RequestedOutput
from server.engine.families import Family
from server.records import Ask


@dataclass(slots=True, eq=False)
class Plan:
    """A call, judged by all but its tensors' bytes: what it asks, where its inputs lie and which outputs it wants."""

    ask: Ask
    layout: InputLayout
    chosen: Sequence[tuple[TensorSpec, int]]
    labels: Sequence[str]


Plans = WeakKeyDictionary[Family, Plan]
"""What was worked out about a request from all but its tensors' bytes, by family."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class OipRequest:
    """One call for an inference. No outputs means all of them.

    Units: arrival_s is on the monotonic clock; time_left_s is what the transport's own deadline leaves.
    """

    model: str
    version: str | None
    inputs: Sequence[InputTensor]
    request_id: str
    arrival_s: float
    protocol: str
    outputs: Sequence[RequestedOutput] = ()
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
    outputs: list[OutputTensor]
    parameters: dict[str, str | int | float]
