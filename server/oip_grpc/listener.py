"""gRPC's own asyncio server, less one way to end it.

It reads the name of every method that is not registered as UTF-8, in the loop that accepts calls: one call whose name
has the byte 255 ends that loop, and the port with it, while everything else goes on. So here all methods are
registered, which the library tells apart by their bytes, and what is left is refused without its name being read. Each
method accepts its own calls, too: the library's loop would look at all methods again for every call of one.

Metadata that is no UTF-8 ends nothing, but each is logged with a traceback and in full, be it a key: that is left out.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "unknown method"
_NO_TEXT = "Invalid encoding on"
"""How the library begins to tell what somebody's metadata holds."""


class Listener(_server.Server):  # type: ignore[misc]  # grpc has no types
    """A `grpc.aio.server` of these methods, by their full names; it has so many calls open at most."""

    def __init__(
        self, methods: Mapping[str, grpc.RpcMethodHandler], options: list[tuple[str, int]], max_open: float
    ) -> None:
        logging.getLogger(cygrpc.__name__).addFilter(_tells_no_metadata)
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), (), tuple(options), None)
        self._server.max_open = max_open
        self._server.handlers = dict(methods)
        self._server.add_registered_method_handlers(dict(methods))


class _Core(cygrpc.AioServer):  # type: ignore[misc]
    max_open: float
    handlers: dict[str, grpc.RpcMethodHandler]

    def __init__(self, loop: asyncio.AbstractEventLoop, *rest: Any) -> None:
        super().__init__(loop, *rest)
        self._own_loop = loop
        self._calls: set[asyncio.Task[None]] = set()
        self._num_open = 0

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Return what the library takes for the next call of a method, or of others; it ends with the server."""
        return self._own_loop.create_task(self._accept(method))

    async def _accept(self, method: bytes | None) -> None:
        """Answer the calls of a method until the server stops: what is awaited raises then, as the library expects."""
        name = _UNKNOWN if method is None else method.decode()
        resolver = _Resolver(self.handlers.get(name))
        while True:
            accepting = self._request_call() if method is None else self._request_registered_call(method)
            call = await accepting
            has_room = self._num_open < self.max_open
            rpc = cygrpc._handle_rpc(name, resolver, (), call, self._own_loop, not has_room)  # noqa: SLF001
            task = self._own_loop.create_task(
                cygrpc._schedule_rpc_coro(rpc, call, self._own_loop, name)  # noqa: SLF001
            )
            self._calls.add(task)
            self._num_open += has_room
            task.add_done_callback(self._left if has_room else self._calls.discard)

    def _left(self, task: "asyncio.Task[None]") -> None:
        self._num_open -= 1
        self._calls.discard(task)


class _Resolver:
    """Finds one handler, or none, whatever is asked for."""

    def __init__(self, handler: grpc.RpcMethodHandler | None) -> None:
        self._handler = handler

    def resolve_handler(self, _: Any) -> grpc.RpcMethodHandler | None:
        return self._handler


def _tells_no_metadata(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NO_TEXT)
