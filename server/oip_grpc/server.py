"""The gRPC server: its port, its services, its end."""

import contextlib
import socket
from functools import partial
from math import isinf
from typing import TYPE_CHECKING

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from server.dataplane import DataPlane
from server.errors import TooManyConnections
from server.metrics import Metrics
from server.oip_grpc.connection_limit import SWEEP_S, ConnectionCounter
from server.oip_grpc.handlers import GuardedHandlers
from server.oip_grpc.health import GrpcHealth
from server.oip_grpc.inference import Inference
from server.oip_grpc.listener import Listener
from server.oip_grpc.message_reader import build_message_reader
from server.oip_grpc.metadata_limit import limit_metadata
from server.oip_grpc.rpc_timeouts import RpcTimeouts
from server.oip_grpc.service import SERVICE, Service, build_handlers
from server.process.background_tasks import BackgroundTask
from server.process.tls import Certificates
from server.settings import Settings

if TYPE_CHECKING:
    from server.oip_grpc.access import GrpcAccess

_PING_MS = 10_000
"""Clients may ask whether we are alive as often as this."""
_NO_LIMIT = 2**31 - 1


class GrpcServer:
    """Serves one data plane over gRPC. Lifetime: `start`, `stop`, on one event loop."""

    def __init__(
        self, plane: DataPlane, metrics: Metrics, settings: Settings, certificates: Certificates | None = None
    ) -> None:
        self._certificates = certificates
        self._plane = plane
        self._metrics = metrics
        self._settings = settings
        self._server: Listener | None = None
        self._census: BackgroundTask | None = None

    async def start(self) -> str:
        """Begin to serve; return the address, its port resolved.

        Raises: RuntimeError if the address cannot be had.
        """
        limit_metadata(self._settings.max_header_bytes)
        access = _build_access(self._plane, self._settings)
        pace = RpcTimeouts(self._settings, self._metrics, self._plane.engine.doors)
        make_intake = partial(build_message_reader, plane=self._plane, settings=self._settings)
        self._inference = Inference(self._plane, self._metrics, pace, make_intake, access)
        self._health = GrpcHealth(self._plane, (SERVICE,))
        handlers = self._handlers(GuardedHandlers(pace, self._metrics, make_intake, SERVICE, access))
        self._server = server = Listener(handlers.methods, _options(self._settings), self._settings.max_connections)
        port = self._add_port(server)
        await server.start()
        if _finite(self._settings.max_connections_per_client) is not None:
            census = ConnectionCounter(port, self._settings.max_connections_per_client)
            look = partial(census.look, partial(pace.ended, TooManyConnections.reason))
            self._census = BackgroundTask("census", look, SWEEP_S, self._metrics)
            self._census.start()
        return _to_address(self._settings.host, port)

    def _add_port(self, server: Listener) -> int:
        """Open the port, with TLS where there is a certificate; return its number."""
        address = _to_address(self._settings.host, self._settings.grpc_port)
        if self._certificates is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, self._certificates.credentials()))

    def _handlers(self, handlers: GuardedHandlers) -> GuardedHandlers:
        """Add every service."""
        handlers.add_registered_method_handlers(SERVICE, build_handlers(Service(self._plane), self._inference))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, handlers)
        health_service = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        names = (SERVICE, health_service, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(names), handlers)
        return handlers

    def close(self) -> None:
        """Say that nothing is served any more, and read nothing more from any stream; the port answers as before."""
        if self._server is not None:
            self._health.stop()
            self._inference.stop()

    async def stop(self, timeout_s: float) -> None:
        """Close the port; RPCs still open at the timeout are cut off."""
        self.close()
        if self._census is not None:
            await self._census.stop()
        if self._server is not None:
            await self._server.stop(timeout_s)


def check_address(settings: Settings) -> None:
    """Find out whether the gRPC address can be had, long before it is needed.

    Raises: OSError.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(
        settings.host, settings.grpc_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with contextlib.closing(socket.socket(family, kind, protocol)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)


def _build_access(plane: DataPlane, settings: Settings) -> "GrpcAccess | None":
    """Return who decides on callers; None where nobody asks."""
    if plane.engine.tenancy is None:
        return None
    from server.oip_grpc.access import GrpcAccess

    return GrpcAccess(plane.engine.tenancy, settings)


def _options(settings: Settings) -> list[tuple[str, int]]:
    most = _finite(settings.max_connections)
    return [
        ("grpc.max_receive_message_length", settings.largest_message_bytes),
        ("grpc.per_message_decompression", 0),  # it knows no bound: `intake` does it, and off the event loop
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),  # else chance decides a little above the limit
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.server_handshake_timeout_ms", _to_ms(settings.header_timeout_s)),
        # Counted from the last whole head: a connection whose heads never end is idle, too.
        ("grpc.max_connection_idle_ms", _to_ms(settings.idle_timeout_s)),
        ("grpc.max_connection_age_ms", _to_ms(settings.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", _to_ms(settings.body_timeout_s)),
        # A client that no longer answers pings, or takes nothing from its socket, is gone.
        ("grpc.keepalive_time_ms", _to_ms(settings.idle_timeout_s)),
        ("grpc.keepalive_timeout_ms", _to_ms(settings.body_timeout_s)),
        ("grpc.http2.ping_timeout_ms", _to_ms(settings.body_timeout_s)),
        ("grpc.so_reuseport", 0),  # else a second server would share the port in silence
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_MS),
        *([] if most is None else [("grpc.max_allowed_incoming_connections", most)]),
    ]


def _to_ms(seconds: float) -> int:
    """Return a time as gRPC has it, whose largest number stands for no limit."""
    return max(1, round(min(seconds * 1000, _NO_LIMIT)))


def _finite(limit: float) -> int | None:
    return None if isinf(limit) else int(limit)


def _to_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
