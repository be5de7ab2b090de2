"""How long callers may take: to send a request, to send a stream's next one, to take an answer.

gRPC gives a unary method its request once that is whole, and lets nobody end the RPC before. So every method is served
as one that takes a stream of requests, which is the same on the wire, and reads them against the clock.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from math import isinf
from typing import Any

import grpc

from server.engine.doors import Doors
from server.errors import BadRequest, ServeError, TooManyConnections, TooSlow
from server.metrics import Metrics
from server.oip_grpc.errors import reader, refuse
from server.oip_grpc.messages import PROTOCOL
from server.settings import Settings

SLOW_BODY, SLOW_REPLY, IDLE = "slow_body", "slow_reply", "idle"
REASONS = (SLOW_BODY, SLOW_REPLY, IDLE, TooManyConnections.reason)
"""Why RPCs and connections are ended, in the words of HTTP's connections."""


class Pace:
    """The time limits, the count of what they ended, and the doors that close when the server drains."""

    def __init__(self, settings: Settings, metrics: Metrics, doors: Doors) -> None:
        self.doors = doors
        self.stream_s = settings.stream_timeout_s
        self._body_s = settings.body_timeout_s
        self._metrics = metrics
        metrics.rpcs_ended.declare((reason,) for reason in REASONS)

    def ended(self, reason: str, count: int = 1) -> None:
        """Count what was ended over a limit."""
        self._metrics.rpcs_ended.add(count, reason)

    async def read(self, context: grpc.aio.ServicerContext) -> Any:
        """Return the one request of an RPC; None, and the RPC is refused, if it does not come, or cannot be read."""
        try:
            async with _within(self._body_s):
                request = await context.read()
        except TimeoutError:
            self.ended(SLOW_BODY)
            refusal: ServeError = _too_slow("the request", "end of it", self._body_s)
        except asyncio.CancelledError as error:
            refusal = self.doors.refusal(error)
        else:
            if request is grpc.aio.EOF:
                refusal = BadRequest("request", "no message", "one")
            elif isinstance(request, BadRequest):
                refusal = request
            else:
                return request
        self._metrics.refused(refusal, protocol=PROTOCOL)
        refuse(context, refusal)
        return None

    def writer(self, context: grpc.aio.ServicerContext) -> Callable[[Any], Awaitable[None]]:
        """Return what sends the answers of a stream, and ends the running task, its server, if its client takes none.

        Such a client would not take a status either: what gRPC still holds for it goes with its connection.
        """
        task = asyncio.current_task()
        assert task is not None, "A stream is served in a task. This is a bug."

        async def write(answer: Any) -> None:
            try:
                async with _within(self._body_s):
                    await context.write(answer)
            except TimeoutError:
                self.ended(SLOW_REPLY)
                task.cancel()
            except grpc.aio.InternalError:  # the client has gone, and took the call with it
                task.cancel()

        return write


class Requests:
    """The requests of a stream, in turn; they end as if their client had ended them where `refusal` says why."""

    def __init__(self, context: grpc.aio.ServicerContext, pace: Pace, *, may_be_unreadable: bool) -> None:
        self._context = context
        self._pace = pace
        self._may_be_unreadable = may_be_unreadable
        self.refusal: ServeError | None = None

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        try:
            async with _within(self._pace.stream_s):
                request = await self._context.read()
        except TimeoutError:
            self._pace.ended(IDLE)
            self.refusal = _too_slow("the stream", "whole request", self._pace.stream_s)
            raise StopAsyncIteration from None
        if isinstance(request, BadRequest) and not self._may_be_unreadable:
            self.refusal = request
        if request is grpc.aio.EOF or self.refusal is not None:
            raise StopAsyncIteration
        return request


class PacedHandlers:
    """Every method of every service, held to the limits. Generated code adds services to it as to a server."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.methods: dict[str, grpc.RpcMethodHandler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Add the methods of a service. Each reads its requests with a message's own `FromString`."""
        for name, handler in handlers.items():
            self.methods[f"/{service}/{name}"] = self._paced(handler)

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """Do nothing: generated code adds the same methods by their names as well."""

    def _paced(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        forms = {
            "request_deserializer": reader(handler.request_deserializer.__self__),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(_stream(self._pace, handler.stream_stream), **forms)
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(_unary(self._pace, handler.unary_stream), **forms)
        return grpc.stream_unary_rpc_method_handler(_awaited(self._pace, handler.unary_unary), **forms)


Behaviour = Callable[[Any, Any], Any]


def _unary(pace: Pace, behaviour: Behaviour) -> Behaviour:
    async def answer(_: Any, context: grpc.aio.ServicerContext) -> Any:
        request = await pace.read(context)
        return None if request is None else await behaviour(request, context)

    return answer


def _awaited(pace: Pace, behaviour: Behaviour) -> Behaviour:
    """Return a unary method whose calls are inside from their first byte on, and told when their time is up."""
    answer = _unary(pace, behaviour)

    async def guarded(requests: Any, context: grpc.aio.ServicerContext) -> Any:
        inside = pace.doors.enter(time.monotonic())
        try:
            return await answer(requests, context)
        except asyncio.CancelledError as error:
            refuse(context, pace.doors.refusal(error))
            return None
        finally:
            pace.doors.leave(inside)

    return guarded


def _stream(pace: Pace, behaviour: Behaviour) -> Behaviour:
    """Return a method of streams; where it gives its answers instead of sending them it can't tell unreadable ones."""
    gives = inspect.isasyncgenfunction(behaviour)

    async def answer(_: Any, context: grpc.aio.ServicerContext) -> None:
        requests = Requests(context, pace, may_be_unreadable=not gives)
        if gives:
            write = pace.writer(context)
            async for message in behaviour(requests, context):
                await write(message)
        else:
            await behaviour(requests, context)
        if requests.refusal is not None:
            refuse(context, requests.refusal)

    return answer


def _within(limit_s: float) -> asyncio.Timeout:
    return asyncio.timeout(None if isinf(limit_s) else limit_s)


def _too_slow(what: str, missing: str, limit_s: float) -> TooSlow:
    return TooSlow(what, f"no {missing} after {limit_s:g} s", "all of it by then")
