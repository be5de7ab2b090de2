"""What every RPC does before its method: its caller is authorized, then its requests are read in time and counted."""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from server.errors import ServeError
from server.metrics import Metrics
from server.oip_grpc.errors import refuse
from server.oip_grpc.message_reader import MessageReader
from server.oip_grpc.protobuf import PROTOCOL
from server.oip_grpc.rpc_timeouts import RpcTimeouts, StreamRequests

if TYPE_CHECKING:
    from server.oip_grpc.access import GrpcAccess

Behaviour = Callable[[Any, Any], Any]
Answer = Callable[[Any], Any]
Authorize = Callable[[Any], object]
"""Returns if the caller may make an RPC. Raises: Unauthenticated; Forbidden."""
Opened = Callable[[bytes], AbstractAsyncContextManager[Any]]


class AuthorizedHandlers:
    """Every method of every service, by its full name. Generated code adds services to it as to a server.

    `access`, where there is any, checks the callers of the service `authorized`.
    """

    def __init__(
        self,
        timeouts: RpcTimeouts,
        metrics: Metrics,
        make_reader: Callable[[Any], MessageReader],
        authorized: str,
        access: "GrpcAccess | None",
    ) -> None:
        self._timeouts = timeouts
        self._metrics = metrics
        self._make_reader = make_reader
        self._access = {authorized: access}
        self.methods: dict[str, grpc.RpcMethodHandler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Add the methods of a service. Each has its message's own `FromString` as deserializer."""
        for name, handler in handlers.items():
            access = self._access.get(service)
            authorize: Authorize = (lambda _: None) if access is None else partial(access.authorize, name)
            self.methods[f"/{service}/{name}"] = self._to_handler(handler, authorize)

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """Do nothing: generated code adds the same methods by their names as well."""

    def _to_handler(self, handler: grpc.RpcMethodHandler, authorize: Authorize) -> grpc.RpcMethodHandler:
        """Return a handler that takes its requests as bytes."""
        opened = self._make_reader(handler.request_deserializer.__self__).opened
        forms = {"request_deserializer": None, "response_serializer": handler.response_serializer}
        if handler.request_streaming:
            answer = _stream(self._timeouts, opened, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(self._authorized(authorize, answer), **forms)
        if handler.response_streaming:
            answer = _unary(self._timeouts, opened, handler.unary_stream)
            return grpc.stream_stream_rpc_method_handler(self._authorized(authorize, answer), **forms)
        answer = self._counted(_unary(self._timeouts, opened, handler.unary_unary))
        return grpc.stream_unary_rpc_method_handler(self._authorized(authorize, answer), **forms)

    def _authorized(self, authorize: Authorize, answer: Answer) -> Behaviour:
        """Return an RPC that authorizes its caller before it reads, and renders the errors of both steps."""

        async def authorized(_: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                authorize(context)
                return await answer(context)
            except ServeError as error:
                self._metrics.refused(error, protocol=PROTOCOL)
                refuse(context, error)
                return None

        return authorized

    def _counted(self, answer: Answer) -> Answer:
        """Return a unary method that the drain gate counts; it fails as Draining if it outlasts the drain."""
        drain_gate = self._timeouts.drain_gate

        async def counted(context: grpc.aio.ServicerContext) -> Any:
            inside = drain_gate.enter(time.monotonic())
            try:
                return await answer(context)
            except asyncio.CancelledError:
                refusal = drain_gate.refusal()
                if refusal is None:
                    raise
                refuse(context, refusal)
                return None
            finally:
                drain_gate.leave(inside)

        return counted


def _unary(timeouts: RpcTimeouts, opened: Opened, behaviour: Behaviour) -> Answer:
    async def answer(context: grpc.aio.ServicerContext) -> Any:
        async with opened(await timeouts.read(context)) as request:
            return await behaviour(request, context)

    return answer


def _stream(timeouts: RpcTimeouts, opened: Opened, behaviour: Behaviour) -> Answer:
    """Return a method of streams. A generator gets parsed requests; a method that writes its answers gets bytes."""
    is_generator = inspect.isasyncgenfunction(behaviour)

    async def answer(context: grpc.aio.ServicerContext) -> None:
        requests = StreamRequests(context, timeouts)
        if is_generator:
            write = timeouts.writer(context)
            async for message in behaviour(_each(requests, opened), context):
                await write(message)
        else:
            await behaviour(requests, context)
        if requests.refusal is not None:
            raise requests.refusal

    return answer


async def _each(requests: StreamRequests, opened: Opened) -> AsyncIterator[Any]:
    async for data in requests:
        async with opened(data) as request:
            yield request
