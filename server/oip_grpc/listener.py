"""gRPC's own asyncio server, less one way to end it.

It reads the name of every method that is not registered as UTF-8, in the loop that accepts calls: one call whose name
has the byte 255 ends that loop, and the port with it, while everything else goes on. So here all methods are
registered, which the library tells apart by their bytes, and what is left is refused without its name being read.

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
    """A `grpc.aio.server` of these methods, by their full names."""

    def __init__(
        self,
        methods: Mapping[str, grpc.RpcMethodHandler],
        options: list[tuple[str, int]],
        maximum_concurrent_rpcs: int | None,
    ) -> None:
        logging.getLogger(cygrpc.__name__).addFilter(_tells_no_metadata)
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), (), tuple(options), maximum_concurrent_rpcs)
        self._server.add_registered_method_handlers(dict(methods))


class _Core(cygrpc.AioServer):  # type: ignore[misc]
    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        """Return the next call of a method; of no method in particular there is never one, for those are refused."""
        if method is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method)
            return future
        return asyncio.get_running_loop().create_task(self._refuse_unknown())

    async def _refuse_unknown(self) -> None:
        """Answer UNIMPLEMENTED to whatever comes, until the server stops: it raises then, as the library expects."""
        loop, refusals = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        while True:
            call = await self._request_call()
            answering = cygrpc._handle_rpc(_UNKNOWN, _Nobody(), (), call, loop, False)  # noqa: SLF001
            refusal = loop.create_task(cygrpc._schedule_rpc_coro(answering, call, loop, _UNKNOWN))  # noqa: SLF001
            refusals.add(refusal)
            refusal.add_done_callback(refusals.discard)


def _tells_no_metadata(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NO_TEXT)


class _Nobody:
    """Finds no method."""

    def resolve_handler(self, _: Any) -> None:
        return None
