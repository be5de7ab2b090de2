"""The outermost ASGI application: gives each request an id and an arrival time, and renders every failure.

The most frequent routes go straight to their handler; all others go through FastAPI's router.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from server.app.browser_policy import BrowserPolicy
from server.app.controller import ControllerView
from server.app.errors import headers_of, to_reply, to_serve_error
from server.app.health import HealthView
from server.app.routes import Endpoint, build_api, build_endpoints
from server.app.usage import UsageView
from server.classify import ClassifyHandler, ModelsHandler
from server.dataplane import DataPlane
from server.engine import Engine
from server.engine.drain_gate import Inside
from server.errors import ServeError, forget_frames
from server.http.exchange import (
    ARRIVAL,
    AccessLevel,
    HttpReply,
    HttpRequest,
    Message,
    RawHeaders,
    Receive,
    Scope,
    Send,
    new_request_id,
    send_reply,
)
from server.metrics import Metrics
from server.metrics.tracing import CALLER, refusal_span
from server.oip import Oip
from server.process.event_loop_watchdog import EventLoopWatchdog
from server.process.supervisor import RestartInfo
from server.settings import Settings

if TYPE_CHECKING:
    from server.app.access import HttpAccess

OTHER = "other"
"""The background task that stands for all that have no name."""
PROCESS = "process"
"""The fault that a supervisor mends by restarting the server."""
_OIP_PREFIX = "/v2"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing and infer nothing: they are answered while the server drains."""
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_KEY_HEADERS = frozenset({b"authorization", b"x-api-key"})


class App:
    """One server's ASGI application. Its lifespan starts and drains `engine`.

    `api` is the FastAPI application behind it; `plane` serves the Open Inference Protocol to HTTP and gRPC.
    """

    def __init__(
        self, settings: Settings, engine: Engine, metrics: Metrics, restart_info: RestartInfo | None = None
    ) -> None:
        self.engine = engine
        self._settings = settings
        self._metrics = metrics
        metrics.recovery.series(PROCESS)
        metrics.background_task_failures.declare([(OTHER,)])
        self._restart_info = restart_info
        self._watchdog = EventLoopWatchdog(metrics, is_expendable=restart_info is not None)
        self.plane = DataPlane(engine, settings)
        self._body_memory = body_memory = self.plane.body_memory
        metrics.bodies_bytes.watch(lambda: body_memory.held_bytes)
        metrics.bodies_limit_bytes.watch(lambda: body_memory.max_held_bytes)
        self._classify = ClassifyHandler(engine, settings, self.plane.decode_pool)
        self._oip = Oip(self.plane, settings)
        self.access = _build_access(engine, settings)
        self._browser_policy = BrowserPolicy(settings)
        models = ModelsHandler(engine, settings)
        endpoints = build_endpoints(self._classify, models)
        self._hot: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in endpoints if "{" not in endpoint.path}
        view, health = ControllerView(engine, settings), HealthView(engine, metrics)
        self.api: FastAPI = build_api(endpoints, models, view, UsageView(engine, self.access), health, self._render)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrival_s = scope.get(ARRIVAL) or time.monotonic()
        request = HttpRequest(
            scope,
            receive,
            request_id=_request_id(scope),
            arrival_s=arrival_s,
            body_memory=self._body_memory,
            authorize=self._authorize,
        )
        if self.engine.tracer is not None:
            CALLER.set(request.header(b"traceparent"))
        drain_gate = self.engine.drain_gate
        inside = drain_gate.enter(arrival_s)
        try:
            reply = await self._reply_to(request, receive, send, inside)
            drain_gate.reply(inside)
            if reply is not None:
                await send_reply(send, reply, self._headers(request))
        finally:
            drain_gate.leave(inside)

    async def _reply_to(
        self, request: HttpRequest, receive: Receive, send: Send, inside: Inside | None
    ) -> HttpReply | None:
        """Return the reply to a request; None where the router has sent it."""
        scope = request.scope
        path: str = scope["path"]
        endpoint = self._hot.get(path)
        try:
            preflight = self._browser_policy.preflight(request)
            if inside is None and preflight is None and scope["method"] not in _READING:
                await self._refuse_late(request)
            if preflight is not None:
                reply = preflight
            elif path.startswith(_OIP_PREFIX):
                reply = await self._oip(request)
            elif endpoint is not None and scope["method"] == endpoint.method:
                request.authorize(endpoint.level)
                reply = await endpoint.handler(request)
            else:
                await self._route(scope, receive, self._response_sender(send, request, inside), request)
                return None
        except asyncio.CancelledError:
            refusal = self.engine.drain_gate.refusal()
            if refusal is None:
                raise
            reply = self._render(refusal, request)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes an answer
            reply = self._render(error, request)
        finally:
            request.release()
        return reply

    def _authorize(self, request: HttpRequest, level: AccessLevel) -> None:
        """Return if a request may reach a route: by its key, or without one by the web page that it comes from."""
        if self.access is not None:
            self.access.authorize(request, level)
        if request.caller is None or not request.caller.has_key:
            self._browser_policy.check(request, level)

    def _headers(self, request: HttpRequest) -> RawHeaders:
        """Return the headers that every answer to a request has, whatever its status."""
        headers = [(b"x-request-id", request.request_id.encode("latin-1")), *self._browser_policy.headers(request)]
        if not request.has_none_of(_KEY_HEADERS):
            headers.append((b"cache-control", b"no-store"))
        if self.access is not None:
            headers += self.access.quota_headers(request)
        if not request.is_body_asked and request.header(b"expect") is not None:
            headers.append((b"connection", b"close"))  # what comes next could still be the body
        return headers

    def _response_sender(self, send: Send, request: HttpRequest, inside: Inside | None) -> "_ResponseSender":
        def on_start() -> RawHeaders:
            self.engine.drain_gate.reply(inside)
            return self._headers(request)

        return _ResponseSender(send, on_start)

    async def _refuse_late(self, request: HttpRequest) -> None:
        """Refuse a request that comes while the server drains. Read it first: a client that still sends reads no reply.

        Raises: Draining.
        """
        await request.body()
        self.engine.drain_gate.check(request.arrival_s)

    async def _route(self, scope: Scope, receive: Receive, sender: "_ResponseSender", request: HttpRequest) -> None:
        """Let the router answer. It renders failures, and raises them nevertheless."""
        scope["http_request"] = request
        try:
            await self.api(scope, receive, sender)
        except Exception:
            if not sender.is_started:
                raise
        finally:
            del scope["http_request"]  # a cycle: the request holds the scope

    def _render(self, error: Exception, request: HttpRequest) -> HttpReply:
        """Return the reply for a failure, and count the failure unless the engine has."""
        expected = to_serve_error(error, request)
        if not request.is_counted:
            request.is_counted = True
            is_oip = request.scope["path"].startswith(_OIP_PREFIX)
            protocol = "oip" if is_oip else "classify"
            self._metrics.refused(expected, protocol=protocol)
            if self.engine.tracer is not None:
                span = refusal_span(protocol, request.request_id, request.arrival_s, time.monotonic(), expected.reason)
                self.engine.tracer.record(CALLER.get(), span, error=str(expected))
        forget_frames(error)
        return to_reply(expected, headers_of(error))

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Start the engine, wait for the end of the lifespan, drain the engine."""
        await receive()
        try:
            await self.engine.start()
        except ServeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if not self.engine.shelf.families:
            await send({"type": "lifespan.startup.failed", "message": "no family could be loaded; see above"})
            return
        if self._restart_info is not None and self._restart_info.down_since_s is not None:
            self._metrics.recovery.series(PROCESS).observe(time.monotonic() - self._restart_info.down_since_s)
        asyncio.get_running_loop().set_exception_handler(self._count_failure)
        self._watchdog.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.engine.drain(self._settings.drain_s)
        self._watchdog.stop()
        self.plane.decode_pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _count_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count a timer or task whose failure no one awaits; the loop itself logs it."""
        self._metrics.background_task_failures.add(1, OTHER)
        loop.default_exception_handler(context)


class _ResponseSender:
    """Sends the router's messages with our headers in place of its own, and stores whether the head is sent."""

    __slots__ = ("_on_start", "_send", "is_started")

    def __init__(self, send: Send, on_start: Callable[[], RawHeaders]) -> None:
        self._send = send
        self._on_start = on_start
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            ours = self._on_start()
            names = {name for name, _ in ours}
            message["headers"] = [*(each for each in message["headers"] if each[0] not in names), *ours]
        await self._send(message)


def _build_access(engine: Engine, settings: Settings) -> "HttpAccess | None":
    """Return what checks callers; None where there is no tenancy."""
    if engine.tenancy is None:
        return None
    from server.app.access import HttpAccess

    return HttpAccess(engine.tenancy, settings)


def _request_id(scope: Scope) -> str:
    """Return the caller's own id if it is printable and short, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            return given if _REQUEST_ID.fullmatch(given) else new_request_id()
    return new_request_id()


def create_app(settings: Settings, engine: Engine, metrics: Metrics, restart_info: RestartInfo | None = None) -> App:
    """Return the application that serves this engine; its lifespan starts and drains it.

    `restart_info` comes from the supervisor, where there is one.
    """
    return App(settings, engine, metrics, restart_info)
