"""gRPC's standard health service. Its answers follow the engine's state."""

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.dataplane import DataPlane
from server.errors import NotFound, ServeError
from server.oip_grpc.errors import refuse

_WATCH_S = 1.0
_Status = health_pb2.HealthCheckResponse


class GrpcHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Says whether the server, one of its services or one of its models is ready."""

    def __init__(self, plane: DataPlane, services: tuple[str, ...]) -> None:
        self._plane = plane
        self._services = ("", *services)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Report NOT_SERVING from now on, and end the watches."""
        self._stopping.set()

    async def Check(self, request: Any, context: grpc.aio.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            refuse(context, NotFound("service", request.service, "one, or a model"))
            return None
        return _Status(status=status)

    async def Watch(self, request: Any, context: grpc.aio.ServicerContext) -> None:  # noqa: N802 - gRPC's name
        last_status = None
        while True:
            is_last, status = self._stopping.is_set(), self._status(request.service)
            if status != last_status:
                await context.write(_Status(status=status))
                last_status = status
            if is_last:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _WATCH_S)

    def _status(self, service: str) -> int:
        if self._stopping.is_set():
            return int(_Status.NOT_SERVING)
        try:
            if service in self._services:
                self._plane.check_ready()
            else:
                self._plane.check_model_ready(service, None)
        except NotFound:
            return int(_Status.SERVICE_UNKNOWN)
        except ServeError:
            return int(_Status.NOT_SERVING)
        return int(_Status.SERVING)
