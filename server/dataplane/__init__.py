"""The Open Inference Protocol without its transports: what HTTP and gRPC share."""

from server.dataplane.dataplane import DataPlane
from server.dataplane.messages import MAX_DIMS, Infer, Input, Outcome, Output, Plans
from server.dataplane.outputs import is_cut_short
from server.dataplane.signature import Port
from server.dataplane.tensors import Tensor

__all__ = ["MAX_DIMS", "DataPlane", "Infer", "Input", "Outcome", "Output", "Plans", "Port", "Tensor", "is_cut_short"]
