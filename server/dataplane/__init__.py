"""The Open Inference Protocol without its transports: what HTTP and gRPC share."""

from server.dataplane.dataplane import DataPlane
from server.dataplane.messages import MAX_DIMS, Input, OipRequest, OipResponse, Output, Plans
from server.dataplane.outputs import is_cut_short
from server.dataplane.signature import TensorSpec
from server.dataplane.tensors import Tensor

__all__ = [
    "MAX_DIMS",
    "DataPlane",
    "Input",
    "OipRequest",
    "OipResponse",
    "Output",
    "Plans",
    "Tensor",
    "TensorSpec",
    "is_cut_short",
]
