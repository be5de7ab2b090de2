"""`python -m server`: read the settings, build the application, and run it until a stop signal."""

import asyncio
import contextlib
import gc
import inspect
import io
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import cast

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it once, when it is first imported

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from server import __version__
from server.app import App, create_app
from server.controller import Controller, MakePolicy
from server.engine import Engine, build_engine
from server.engine.drain_gate import LAST_WORDS_S
from server.errors import ServeError
from server.host.cgroups import memory_bytes, num_cpus
from server.http.arrivals import ArrivalEstimator
from server.http.connection_limits import ConnectionLimiter, ConnectionStage
from server.http.protocol import Protocol
from server.metrics import Metrics
from server.metrics.redaction import redact
from server.oip_grpc import GrpcServer
from server.oip_grpc.server import check_address
from server.process.logs import set_up_logs
from server.process.supervisor import RELOAD_SIGNAL, STOP_SIGNALS, RestartInfo, ignore_signals, supervise
from server.process.tls import Certificates, read_certificates
from server.settings import Settings

_log = logging.getLogger("adatape.server")

_BACKLOG = 2048
_POLL_S = 0.02
_GARBAGE_THRESHOLD = 50_000
"""The youngest generation is collected when so many more objects were allocated than freed."""


class CommandLine(Settings):
    """Serve the image models of a model repository over HTTP.

    Each option can also be set in the environment, as ADATAPE_ and its name: ADATAPE_PORT=9000.
    Once it runs, http://127.0.0.1:8000/ is a page to try it on, /docs there shows the API, and this classifies a photo:

    curl -F file=@photo.jpg "http://127.0.0.1:8000/v1/classify?max_tape=8"
    """

    model_config = SettingsConfigDict(cli_prog_name="python -m server", cli_kebab_case=True, cli_hide_none_type=True)


CommandLine.__doc__ = inspect.cleandoc(CommandLine.__doc__ or "")  # --help shows it as it stands


class Server(uvicorn.Server):
    """Runs uvicorn and the gRPC server, and logs what is served once callers can connect."""

    def __init__(
        self,
        app: App,
        grpc: GrpcServer,
        connection_limiter: ConnectionLimiter,
        settings: Settings,
        certificates: Certificates | None = None,
    ) -> None:
        super().__init__(_to_config(app, connection_limiter, settings, certificates))
        self._connection_limiter = connection_limiter
        self._certificates = certificates
        self._engine = app.engine
        self._grpc = grpc
        self._drain_delay_s = settings.drain_delay_s
        self._hurry = asyncio.Event()
        self._started_s = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        self._connection_limiter.watch(cast("set[Protocol]", self.server_state.connections))
        if self._certificates is not None:
            self._certificates.start()
        grpc_address = await self._grpc.start()
        _tune_collector()
        assert sockets, "The socket is bound before the server starts. This is a bug."
        url, *admin_url = [_to_url(each, is_secure=self.config.is_ssl) for each in sockets]
        families = ",".join(self._engine.repository.families())
        seconds = time.monotonic() - self._started_s
        if admin_url:
            _log.info("admin url=%s", admin_url[0])
        _log.info(
            "serving url=%s families=%s device=%s docs=%s/docs grpc=%s seconds=%.2f version=%s",
            *(url, families, self._engine.device, url, grpc_address, seconds, __version__),
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that stop the server, and the one that reloads its files."""
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle_exit)
        signal.signal(RELOAD_SIGNAL, lambda *_: self._loop.call_soon_threadsafe(self._reload))
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as signals have it
        """Begin to stop; on a second SIGINT, stop at once."""
        is_repeated = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        if is_repeated:
            self._loop.call_soon_threadsafe(self._hurry_up)

    def _hurry_up(self) -> None:
        self._hurry.set()
        self._engine.drain_gate.hurry()

    def _reload(self) -> None:
        """Read keys and certificates again now, and log it, changed or not."""
        _log.info("reloading signal=SIGHUP")
        if self._engine.tenancy is not None:
            self._engine.tenancy.reload()
        if self._certificates is not None:
            self._certificates.reload()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Report not ready, then admit no more, finish what was accepted, and close the ports.

        Both ports answer until then: health checks are answered, and new inference requests are refused.
        """
        self._engine.leave()
        self._connection_limiter.drain()
        await _at_most(self._hurry.wait(), self._drain_delay_s)
        self._engine.close()
        self._grpc.close()
        await self.lifespan.shutdown()
        await asyncio.gather(self._grpc.stop(LAST_WORDS_S), self._close(sockets or []))
        await self._connection_limiter.stop()
        if self._certificates is not None:
            await self._certificates.stop()
        _exit_within(LAST_WORDS_S)

    async def _close(self, sockets: list[socket.socket]) -> None:
        """Close the HTTP ports and the idle connections, then the others when their replies are sent or time is up."""
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        connections = cast("set[Protocol]", self.server_state.connections)
        for connection in list(connections):
            if connection.stage is ConnectionStage.BODY:  # its request arrived late, and is incomplete
                connection.end(self._engine.drain_gate.late())
            else:
                connection.shutdown()
        end_s = time.monotonic() + LAST_WORDS_S
        while connections and time.monotonic() < end_s:  # noqa: ASYNC110 - uvicorn's set has no event
            await asyncio.sleep(_POLL_S)
        for connection in list(connections):
            connection.transport.abort()


async def _at_most(waiting: Awaitable[object], limit_s: float) -> None:
    """Wait for something, for `limit_s` at most."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(waiting, limit_s)


def _exit_within(limit_s: float) -> None:
    """End this process within `limit_s`, whatever its threads still do: a read of a disk may never end."""
    timer = threading.Timer(limit_s, os._exit, (0,))
    timer.daemon = True
    timer.start()


def _tune_collector() -> None:
    """Exclude from garbage collection what lives as long as the process, and collect the rest less often.

    Requests leave hardly any cycles, and the default, a collection every 700 objects, took a seventh of the event
    loop's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)


def main(arguments: Sequence[str] | None = None, make_policy: MakePolicy = Controller) -> None:
    """Run the server until a signal stops it, then finish what was accepted.

    `make_policy` makes the policy that keeps the service level: benchmarks pass other ones to compare.
    Raises: SystemExit with a one-line reason where it cannot start.
    """
    ignore_signals()
    settings = _read_settings(sys.argv[1:] if arguments is None else arguments)
    set_up_logs(settings)
    serve = partial(_serve, settings, make_policy)
    if settings.supervise:
        raise SystemExit(supervise(settings, serve))
    serve(None)


def _serve(settings: Settings, make_policy: MakePolicy, restart_info: RestartInfo | None) -> None:
    _allow_open_files()
    listeners = _bind(settings)
    metrics = Metrics(settings.slo_s)
    certificates = _read_certificates(settings, metrics)
    engine = _build(settings, metrics, make_policy)
    limits = (memory_bytes(), num_cpus(), settings.max_bodies_bytes, settings.num_threads)
    _log.info("limits memory_bytes=%d cpus=%d bodies_bytes=%.0f threads=%d", *limits)
    app = create_app(settings, engine, metrics, restart_info)
    if app.access is not None and settings.admin_port is not None:
        app.access.admin_port = listeners[1].getsockname()[1]
    grpc = GrpcServer(app.plane, metrics, settings, certificates)
    connection_limiter = ConnectionLimiter(settings, metrics)
    Server(app, grpc, connection_limiter, settings, certificates).run(sockets=listeners)


def _read_settings(arguments: Sequence[str]) -> Settings:
    """Return the settings, or exit with what is wrong with them, without the secrets that they may hold."""
    usage_error = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage_error):
            return CommandLine(_cli_parse_args=list(arguments))
    except ValidationError as error:
        raise SystemExit("\n".join(_to_line(item) for item in error.errors())) from error
    finally:
        sys.stderr.write(redact(usage_error.getvalue()))


def _to_line(error: object) -> str:
    assert isinstance(error, dict)
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return redact(message)
    field = CommandLine.model_fields.get(place)
    got = "something else" if field is not None and not field.repr else redact(str(error["input"]))
    return f"{place}; got {got}; expected: {message}"


def _allow_open_files() -> None:
    """Raise the limit of open files as far as the system allows: each connection needs one file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _bind(settings: Settings) -> list[socket.socket]:
    """Bind the ports first, so that a used one is known before any model is loaded; the admins' port comes second."""
    address, option = f"{settings.host}:{settings.port}", "--port"
    try:
        listeners = [_listen(settings.host, settings.port)]
        address, option = f"{settings.host}:{settings.grpc_port}", "--grpc-port"
        check_address(settings)
        if settings.admin_port is not None:
            address, option = f"{settings.admin_host}:{settings.admin_port}", "--admin-port"
            listeners.append(_listen(settings.admin_host, settings.admin_port))
    except OSError as error:
        raise SystemExit(
            f"address {address}; got {error.strerror}; expected a free one: try another {option}"
        ) from error
    return listeners


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place)
    return listener


def _read_certificates(settings: Settings, metrics: Metrics) -> Certificates | None:
    try:
        return read_certificates(settings, metrics)
    except ValueError as error:
        raise SystemExit(redact(str(error))) from error


def _build(settings: Settings, metrics: Metrics, make_policy: MakePolicy) -> Engine:
    """Return the engine, or exit if it has no model to serve."""
    try:
        engine = build_engine(settings, metrics, make_policy)
    except (ServeError, ValueError) as error:
        raise SystemExit(redact(str(error))) from error
    if not engine.repository.families():
        broken = [f"  {place}: {reason}" for place, reason in sorted(engine.repository.broken().items())]
        what = f"model repository; got no complete family in {settings.model_repository}; expected at least one"
        raise SystemExit("\n".join([what, *broken]))
    return engine


def _to_config(
    app: App, connection_limiter: ConnectionLimiter, settings: Settings, certificates: Certificates | None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(Protocol, connection_limiter=connection_limiter, arrivals=ArrivalEstimator()),  # type: ignore[arg-type]  # it is called as a class is
        ws="none",
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=math.ceil(settings.idle_timeout_s),
        ssl_context_factory=None if certificates is None else lambda *_: certificates.context,
    )


def _to_url(listener: socket.socket, *, is_secure: bool = False) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if is_secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


if __name__ == "__main__":
    main()
