"""One inference, as every transport passes it to the data plane and takes its response back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from server.dataplane.signature import InputLayout, TensorSpec
from server.dataplane.tensors import InputTensor, OutputTensor, RequestedOutput
from server.engine.families import Family
from server.records import RequestLimits


@dataclass(slots=True, eq=False)
class Plan:
    """The result of checking a request, all but its tensors' bytes: its budget, input layout and chosen outputs."""

    ask: RequestLimits
    layout: InputLayout
    chosen: Sequence[tuple[TensorSpec, int]]
    labels: Sequence[str]


Plans = WeakKeyDictionary[Family, Plan]
"""The plans of one repeated document, by family."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class OipRequest:
    """One request for an inference. No outputs means all of them.

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
    """Budget parameters from headers; those of the message itself win."""
    time_left_s: float | None = None
    tenant: str | None = None
    plans: Plans | None = None
    """Shared by all requests that differ only in their tensors' bytes."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class OipResponse:
    """The response to a request: its outputs in the order asked for, and its receipt as response parameters."""

    model: str
    version: str
    outputs: list[OutputTensor]
    parameters: dict[str, str | int | float]
