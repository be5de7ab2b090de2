"""ModelInfer and ModelStreamInfer.

With `parameters: progressive` a stream answers a request first with a small budget, then with the one that was asked
for. `true` takes a first cap of 0, a number is the first cap itself. The client may stop by cancelling the stream: a
second answer that has not begun is not charged. There is none where no larger cap could improve the first answer.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from server.dataplane import DataPlane, OipRequest, OipResponse, is_cut_short
from server.errors import BadRequest, Draining, ServeError, forget_frames
from server.http.exchange import new_request_id
from server.metrics import Metrics
from server.metrics.tracing import CALLER
from server.oip_grpc.errors import refuse, to_serve_error
from server.oip_grpc.message_reader import MessageReader
from server.oip_grpc.protobuf import PROTOCOL, set_values, to_infer, to_response
from server.oip_grpc.rpc_timeouts import RpcTimeouts

if TYPE_CHECKING:
    from server.oip_grpc.access import GrpcAccess
    from server.tenancy import Caller

MAX_OPEN = 64
"""Requests of one stream that may be open at the same time; the others wait in the client's buffers."""
PROGRESSIVE = "progressive"
_FINAL = "triton_final_response"
_REQUEST_ID = "x-request-id"


class Inference:
    """Answers inferences, one by one or as a stream. `stop` ends open streams."""

    def __init__(
        self,
        plane: DataPlane,
        metrics: Metrics,
        timeouts: RpcTimeouts,
        make_reader: Callable[[Any], MessageReader],
        access: "GrpcAccess | None" = None,
    ) -> None:
        self._access = access
        self._message_reader = make_reader(pb.ModelInferRequest)
        self._timeouts = timeouts
        self._plane = plane
        self._drain_gate = plane.engine.drain_gate
        self._metrics = metrics
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Read nothing more from any stream; requests that were read are answered."""
        self._stopping.set()

    async def infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Answer a ModelInferRequest; the RPC's own deadline and cancellation count."""
        try:
            oip_request = self._read(request, context, self._caller(context, "ModelInfer"))
            context.set_trailing_metadata(((_REQUEST_ID, oip_request.request_id),))
            response, _ = await self._answer(oip_request)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes an answer
            refuse(context, to_serve_error(error, "ModelInfer"), self._quota(context))
            return None
        if self._access is not None:
            context.set_trailing_metadata((*(context.trailing_metadata() or ()), *self._quota(context)))
        return to_response(response, request.id)

    def _quota(self, context: grpc.aio.ServicerContext) -> tuple[tuple[str, str], ...]:
        return () if self._access is None else self._access.quota_metadata(context)

    async def stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        """Answer each request as soon as its answer is ready; a failed request does not end the stream."""
        free_places, write_lock = asyncio.Semaphore(MAX_OPEN), asyncio.Lock()
        reading, write = StoppableStream(requests, self._stopping), self._timeouts.writer(context)

        async def serve(data: bytes, arrival_s: float) -> None:
            inside = self._drain_gate.enter(arrival_s)
            try:
                async for response in self._responses(data, context):
                    async with write_lock:
                        await write(response)
            finally:
                self._drain_gate.leave(inside)
                free_places.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for data in reading:
                    arrival_s = time.monotonic()
                    await free_places.acquire()
                    group.create_task(serve(data, arrival_s))
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904 - the same error, without the frames of the task group
        if reading.was_stopped:
            refuse(context, Draining("the server is shutting down", None, "another server"))

    async def _responses(self, data: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Yield the one answer of a request, or both answers of a progressive one.

        The key is checked again for each request, because it may have been withdrawn.
        """
        name = ""
        try:
            caller = self._caller(context, "ModelStreamInfer")
            async with self._opened(data) as request:
                name = request.id
                first, oip_request = take_first_step(self._read(request, context, caller))
                if first is not None:
                    response, can_improve = await self._answer(first)
                    yield _stream_response(response, name, is_final=not can_improve)
                    if not can_improve:
                        return
                response, _ = await self._answer(oip_request)
                yield _stream_response(response, name, is_final=True)
        except asyncio.CancelledError:
            refusal = self._drain_gate.refusal()
            if refusal is None:
                raise
            yield _stream_failure(refusal, name)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes an answer
            yield _stream_failure(to_serve_error(error, "ModelStreamInfer"), name)
            forget_frames(error)

    @contextlib.asynccontextmanager
    async def _opened(self, data: bytes) -> AsyncIterator[Any]:
        """Yield a parsed request. All its bytes count as held memory: one RPC may have many requests open."""
        async with contextlib.AsyncExitStack() as stack:
            with self._counting_refusals():
                request = await stack.enter_async_context(self._message_reader.opened(data, free_bytes=0))
            yield request

    def _caller(self, context: grpc.aio.ServicerContext, rpc: str) -> "Caller | None":
        with self._counting_refusals():
            return None if self._access is None else self._access.authorize(rpc, context)

    def _read(self, request: Any, context: grpc.aio.ServicerContext, caller: "Caller | None") -> OipRequest:
        if self._plane.engine.tracer is not None:
            CALLER.set(dict(context.invocation_metadata() or ()).get("traceparent"))
        with self._counting_refusals():
            return to_infer(
                request,
                request_id=new_request_id(),
                arrival_s=time.monotonic(),
                time_left_s=context.time_remaining(),
                tenant=None if caller is None else caller.tenant,
            )

    async def _answer(self, oip_request: OipRequest) -> tuple[OipResponse, bool]:
        """Return the response, and whether a larger cap could improve it."""
        with self._counting_refusals():
            infer_request, builder = await self._plane.prepare(oip_request)
        answer = await self._plane.engine.infer(infer_request)
        return builder(answer), is_cut_short(answer)

    @contextlib.contextmanager
    def _counting_refusals(self) -> Any:
        """Count a refusal that happens before the engine takes the request."""
        try:
            yield
        except asyncio.CancelledError:
            refusal = self._drain_gate.refusal()
            if refusal is None:
                raise
            self._metrics.refused(refusal, protocol=PROTOCOL)
            raise refusal from None
        except ServeError as error:
            self._metrics.refused(error, protocol=PROTOCOL)
            raise


def take_first_step(request: OipRequest) -> tuple[OipRequest | None, OipRequest]:
    """Return the first step of a progressive request, None for any other, and the request without the parameter.

    Raises: BadRequest for a first cap that is no cap.
    """
    if PROGRESSIVE not in request.parameters:
        return None, request
    parameters = dict(request.parameters)
    first = parameters.pop(PROGRESSIVE)
    rest = replace(request, parameters=parameters)
    if first is False:
        return None, rest
    cap = 0 if first is True else first
    if not isinstance(cap, int) or cap < 0:
        raise BadRequest(PROGRESSIVE, first, "true, false, or the first cap: an integer, 0 or more")
    asked = parameters.get("max_tape", cap)
    if type(asked) is int and asked < cap:
        return None, rest
    # The first answer has its small cap, whatever accuracy the request asks for.
    small = {name: value for name, value in parameters.items() if name != "min_accuracy"}
    return replace(request, parameters={**small, "max_tape": cap}), rest


def _stream_response(answer: OipResponse, name: str, *, is_final: bool) -> Any:
    response = to_response(answer, name)
    set_values(response.parameters, {_FINAL: is_final})
    return pb.ModelStreamInferResponse(infer_response=response)


def _stream_failure(error: ServeError, name: str) -> Any:
    """Return the response to a request that failed; a request that could not be read has no id."""
    return pb.ModelStreamInferResponse(error_message=str(error), infer_response=pb.ModelInferResponse(id=name))


class StoppableStream:
    """Iterates over a stream's requests until the client ends it or the server stops; then `was_stopped` is true."""

    def __init__(self, requests: AsyncIterator[Any], stopping: asyncio.Event) -> None:
        self._requests = aiter(requests)
        self._stopping = stopping
        self.was_stopped = False

    async def __aiter__(self) -> AsyncIterator[Any]:
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            while not self.was_stopped:
                read = asyncio.ensure_future(self._next())
                await asyncio.wait((read, stop), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                    self.was_stopped = True
                elif (request := read.result()) is not None:
                    yield request
                else:
                    return
        finally:
            stop.cancel()

    async def _next(self) -> Any:
        return await anext(self._requests, None)
