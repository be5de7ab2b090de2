"""The Open Inference Protocol over gRPC, with the standard health service and reflection."""

from server.oip_grpc.server import GrpcServer

__all__ = ["GrpcServer"]
