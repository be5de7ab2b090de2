"""The outermost ASGI application: an id and an arrival time for each call, and one renderer for every failure.

Hot paths go straight to their surface; everything else goes through FastAPI's router.
"""

import re
import time
from typing import TYPE_CHECKING

from fastapi import FastAPI

from server.app.controller import ControllerView
from server.app.errors import headers_of, to_reply, to_serve_error
from server.app.health import Health
from server.app.routes import Endpoint, build_api, build_endpoints
from server.app.usage import UsageView
from server.classify import Classify, Models
from server.dataplane import DataPlane
from server.engine import Engine
from server.errors import ServeError, forget_frames
from server.metrics import Metrics
from server.oip import Oip
from server.pulse import Pulse
from server.settings import Settings
from server.supervisor import Succession
from server.tracing import CALLER, refusal_span
from server.wire import ARRIVAL, Call, Message, Receive, Reply, Scope, Send, new_request_id, send_reply

if TYPE_CHECKING:
    from server.app.access import HttpAccess

PROCESS = "process"
"""The fault that a supervisor ends by starting the server anew."""
_OIP_PREFIX = "/v2"
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


class App:
    """One server's ASGI application. `api` describes it; `engine` lives as long as its lifespan.

    `plane` answers the Open Inference Protocol, whatever the transport.
    """

    def __init__(
        self, settings: Settings, engine: Engine, metrics: Metrics, succession: Succession | None = None
    ) -> None:
        self.engine = engine
        self._settings = settings
        self._metrics = metrics
        self._classify = Classify(engine, settings)
        metrics.recovery.series(PROCESS)
        self._succession = succession
        self._pulse = Pulse(metrics, is_expendable=succession is not None)
        self.plane = DataPlane(engine, settings)
        self._bodies = bodies = self.plane.bodies
        metrics.bodies_bytes.watch(lambda: bodies.held_bytes)
        metrics.bodies_limit_bytes.watch(lambda: bodies.max_held_bytes)
        self._oip = Oip(self.plane, settings)
        self.access = _build_access(engine, settings)
        models = Models(engine, settings)
        endpoints = build_endpoints(self._classify, models)
        self._hot: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in endpoints if "{" not in endpoint.path}
        view, health = ControllerView(engine, settings), Health(engine, metrics)
        self.api: FastAPI = build_api(endpoints, models, view, UsageView(engine), health, self._render)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrival_s = scope.get(ARRIVAL) or time.monotonic()
        call = Call(scope, receive, request_id=_request_id(scope), arrival_s=arrival_s, bodies=self._bodies)
        if self.engine.tracer is not None:
            CALLER.set(call.header(b"traceparent"))
        path: str = scope["path"]
        endpoint = self._hot.get(path)
        try:
            if self.access is not None:
                self.access.admit(call)
            if path.startswith(_OIP_PREFIX):
                reply = await self._oip(call)
            elif endpoint is not None and scope["method"] == endpoint.method:
                reply = await endpoint.handler(call)
            else:
                await self._route(scope, receive, send, call)
                return
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets an answer
            reply = self._render(error, call)
        finally:
            call.release()
        if self.access is not None:
            reply = self.access.with_quota(reply, call)
        await send_reply(send, reply, call.request_id)

    async def _route(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        """Let the router answer; its own guard renders failures, and lets them through all the same."""
        outbox = _Outbox(send, call.request_id)
        scope["call"] = call
        try:
            await self.api(scope, receive, outbox)
        except Exception:
            if not outbox.is_started:
                raise
        finally:
            del scope["call"]  # which holds the scope

    def _render(self, error: Exception, call: Call) -> Reply:
        """Turn a failure into its reply, and count it unless the engine has."""
        expected = to_serve_error(error, call)
        if not call.is_counted:
            call.is_counted = True
            is_oip = call.scope["path"].startswith(_OIP_PREFIX)
            protocol = "oip" if is_oip else "classify"
            self._metrics.refused(expected, protocol=protocol)
            if self.engine.tracer is not None:
                span = refusal_span(protocol, call.request_id, call.arrival_s, time.monotonic(), expected.reason)
                self.engine.tracer.record(CALLER.get(), span, error=str(expected))
        forget_frames(error)
        return to_reply(expected, headers_of(error))

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start the engine, wait for the signal to stop, drain it."""
        await receive()
        try:
            await self.engine.start()
        except ServeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        if not self.engine.shelf.families:
            await send({"type": "lifespan.startup.failed", "message": "no family could be loaded; see above"})
            return
        if self._succession is not None and self._succession.down_since_s is not None:
            self._metrics.recovery.series(PROCESS).observe(time.monotonic() - self._succession.down_since_s)
        self._pulse.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.engine.drain(self._settings.drain_s)
        self._pulse.stop()
        self._classify.close()
        await send({"type": "lifespan.shutdown.complete"})


class _Outbox:
    """Passes messages on, with the call's id in the head, and remembers whether the head is gone."""

    __slots__ = ("_request_id", "_send", "is_started")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode("ascii")
        self.is_started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.is_started = True
            message["headers"] = [*message["headers"], (b"x-request-id", self._request_id)]
        await self._send(message)


def _build_access(engine: Engine, settings: Settings) -> "HttpAccess | None":
    """Return who decides on callers; None where nobody asks."""
    if engine.tenancy is None:
        return None
    from server.app.access import HttpAccess

    return HttpAccess(engine.tenancy, settings)


def _request_id(scope: Scope) -> str:
    """Return the caller's own id if it is printable and short, else a new one, which need not be hard to guess."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            return given if _REQUEST_ID.fullmatch(given) else new_request_id()
    return new_request_id()


def create_app(settings: Settings, engine: Engine, metrics: Metrics, succession: Succession | None = None) -> App:
    """Return the application that serves this engine; its lifespan starts and drains it.

    A supervised one is told of its succession.
    """
    return App(settings, engine, metrics, succession)
