"""gRPC's own asyncio server, without a fault that lets one RPC end it.

The library's loop that accepts RPCs decodes the name of every unregistered method as UTF-8: one RPC whose name has the
byte 255 ends that loop, and the port with it, while the rest of the process goes on. So here all methods are
registered, which the library compares as bytes, and others are refused without decoding their names. Each method
also accepts its own RPCs, because the library's loop would visit all methods again for every RPC of one.

Metadata that is no UTF-8 ends nothing, but the library logs each with a traceback and in full, even if it is a key.
That log line is dropped, and so is the traceback for an error that could not be sent because its client had gone.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

_UNKNOWN = "unknown method"
_DROPPED = ("Invalid encoding on", "Failed sending error status from server")
"""How the library's log lines about undecodable metadata begin, and those about clients that have gone."""


class Listener(_server.Server):  # type: ignore[misc]  # grpc has no types
    """A `grpc.aio.server` of these methods, by their full names, with at most `max_open` RPCs open."""

    def __init__(
        self, methods: Mapping[str, grpc.RpcMethodHandler], options: list[tuple[str, int]], max_open: float
    ) -> None:
        logging.getLogger(cygrpc.__name__).addFilter(_is_kept)
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
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_open = 0

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Return the future that the library expects for the next RPC of a method; it ends with the server."""
        return self._own_loop.create_task(self._accept(method))

    async def _accept(self, method: bytes | None) -> None:
        """Answer the RPCs of a method until the server stops: the await then raises, as the library expects."""
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
            self._tasks.add(task)
            self._num_open += has_room
            task.add_done_callback(self._close if has_room else self._tasks.discard)

    def _close(self, task: "asyncio.Task[None]") -> None:
        self._num_open -= 1
        self._tasks.discard(task)


class _Resolver:
    """Returns one handler, or None, for every name."""

    def __init__(self, handler: grpc.RpcMethodHandler | None) -> None:
        self._handler = handler

    def resolve_handler(self, _: Any) -> grpc.RpcMethodHandler | None:
        return self._handler


def _is_kept(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_DROPPED)
