"""The Open Inference Protocol without its transports: what its HTTP and gRPC surfaces share."""

from server.dataplane.dataplane import DataPlane
from server.dataplane.messages import OipRequest, OipResponse, Plans
from server.dataplane.outputs import is_cut_short
from server.dataplane.signature import TensorSpec
from server.dataplane.tensors import MAX_DIMS, InputTensor, OutputTensor, RequestedOutput

__all__ = [
    "MAX_DIMS",
    "DataPlane",
    "InputTensor",
    "OipRequest",
    "OipResponse",
    "OutputTensor",
    "Plans",
    "RequestedOutput",
    "TensorSpec",
    "is_cut_short",
]
