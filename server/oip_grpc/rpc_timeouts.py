"""Limits how long a client may take to send a request, to send a stream's next request, and to read an answer.

gRPC passes a request to a unary method only once it is complete, and offers no way to end the RPC before. So every
method is registered as one that takes a stream of requests, which is the same on the wire, and `RpcTimeouts` reads
the requests with a time limit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from math import isinf
from typing import Any

import grpc

from server.engine.drain_gate import DrainGate
from server.errors import BadRequest, ServeError, TooManyConnections, TooSlow
from server.metrics import Metrics
from server.settings import Settings

SLOW_BODY, SLOW_REPLY, IDLE = "slow_body", "slow_reply", "idle"
REASONS = (SLOW_BODY, SLOW_REPLY, IDLE, TooManyConnections.reason)
"""Why RPCs and connections are ended, in the same words as for HTTP."""


class RpcTimeouts:
    """Reads requests and writes answers within the time limits, and counts the RPCs that exceed them."""

    def __init__(self, settings: Settings, metrics: Metrics, drain_gate: DrainGate) -> None:
        self.drain_gate = drain_gate
        self.stream_s = settings.stream_timeout_s
        self._body_s = settings.body_timeout_s
        self._metrics = metrics
        metrics.rpcs_ended.declare((reason,) for reason in REASONS)

    def count_ended(self, reason: str, count: int = 1) -> None:
        """Count RPCs or connections that were ended at a limit."""
        self._metrics.rpcs_ended.add(count, reason)

    async def read(self, context: grpc.aio.ServicerContext) -> bytes:
        """Return the bytes of the one request of an RPC.

        Raises: TooSlow if it does not come in time; BadRequest if it does not come at all.
        """
        try:
            async with _within(self._body_s):
                data = await context.read()
        except TimeoutError:
            self.count_ended(SLOW_BODY)
            raise _too_slow("the request", "end of it", self._body_s) from None
        except asyncio.CancelledError:
            refusal = self.drain_gate.refusal()
            if refusal is None:
                raise
            raise refusal from None
        if data is grpc.aio.EOF:
            raise BadRequest("request", "no message", "one")
        return bytes(data)

    def writer(self, context: grpc.aio.ServicerContext) -> Callable[[Any], Awaitable[None]]:
        """Return a function that sends the answers of a stream, and cancels the running task if the client reads none.

        Such a client would not read a status either. What gRPC holds for it is freed with its connection.
        """
        task = asyncio.current_task()
        assert task is not None, "A stream is served in a task. This is a bug."

        async def write(answer: Any) -> None:
            try:
                async with _within(self._body_s):
                    await context.write(answer)
            except TimeoutError:
                self.count_ended(SLOW_REPLY)
                task.cancel()
            except grpc.aio.InternalError:  # the client has disconnected
                task.cancel()

        return write


class StreamRequests:
    """Iterates over the bytes of a stream's requests. It ends early at a time limit; then `refusal` says why."""

    def __init__(self, context: grpc.aio.ServicerContext, timeouts: RpcTimeouts) -> None:
        self._context = context
        self._timeouts = timeouts
        self.refusal: ServeError | None = None

    def __aiter__(self) -> "StreamRequests":
        return self

    async def __anext__(self) -> bytes:
        try:
            async with _within(self._timeouts.stream_s):
                data = await self._context.read()
        except TimeoutError:
            self._timeouts.count_ended(IDLE)
            self.refusal = _too_slow("the stream", "whole request", self._timeouts.stream_s)
            raise StopAsyncIteration from None
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return bytes(data)


def _within(limit_s: float) -> asyncio.Timeout:
    return asyncio.timeout(None if isinf(limit_s) else limit_s)


def _too_slow(what: str, missing: str, limit_s: float) -> TooSlow:
    return TooSlow(what, f"no {missing} after {limit_s:g} s", "all of it by then")
