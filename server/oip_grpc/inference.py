"""ModelInfer and ModelStreamInfer."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from server.dataplane import DataPlane, Infer, Outcome, is_cut_short
from server.errors import Draining, ServeError, forget_frames
from server.metrics import Metrics
from server.oip_grpc.errors import readable, refuse, to_serve_error
from server.oip_grpc.messages import PROTOCOL, set_values, to_infer, to_response
from server.oip_grpc.pace import Pace
from server.oip_grpc.progressive import take_first_step
from server.oip_grpc.reading import Reading
from server.tracing import CALLER
from server.wire import new_request_id

if TYPE_CHECKING:
    from server.oip_grpc.access import GrpcAccess

MAX_OPEN = 64
"""Requests of one stream that may be open at once; the rest wait in the client's own buffers."""
_FINAL = "triton_final_response"
_REQUEST_ID = "x-request-id"


class Inference:
    """Answers inferences, one by one or as a stream. `stop` ends the streams that would go on."""

    def __init__(self, plane: DataPlane, metrics: Metrics, pace: Pace, access: "GrpcAccess | None" = None) -> None:
        self._access = access
        self._pace = pace
        self._plane = plane
        self._doors = plane.engine.doors
        self._metrics = metrics
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Read nothing more from any stream; what was read is answered."""
        self._stopping.set()

    async def infer(self, request: Any, context: grpc.aio.ServicerContext) -> Any:
        """Answer a ModelInferRequest; the RPC's own deadline and cancellation count."""
        try:
            call = self._read(request, context, "ModelInfer")
            context.set_trailing_metadata(((_REQUEST_ID, call.request_id),))
            outcome, _ = await self._answer(call)
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets an answer
            refuse(context, to_serve_error(error, "ModelInfer"), self._quota(context))
            return None
        if self._access is not None:
            context.set_trailing_metadata((*(context.trailing_metadata() or ()), *self._quota(context)))
        return to_response(outcome, request.id)

    def _quota(self, context: grpc.aio.ServicerContext) -> tuple[tuple[str, str], ...]:
        return () if self._access is None else self._access.quota_metadata(context)

    async def stream(self, requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> None:
        """Answer each request as soon as its answer is there; a failed one costs the stream nothing."""
        if not self._is_known(context):
            return
        room, outbox = asyncio.Semaphore(MAX_OPEN), asyncio.Lock()
        reading, write = Reading(requests, self._stopping), self._pace.writer(context)

        async def serve(request: Any, arrival_s: float) -> None:
            inside = self._doors.enter(arrival_s)
            try:
                async for response in self._responses(request, context):
                    async with outbox:
                        await write(response)
            finally:
                self._doors.leave(inside)
                room.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for request in reading:
                    arrival_s = time.monotonic()
                    await room.acquire()
                    group.create_task(serve(request, arrival_s))
        except asyncio.CancelledError as error:
            raise error.with_traceback(None)  # noqa: B904 - it is the same; the group's own frame holds it
        if reading.was_stopped:
            refuse(context, Draining("the server is shutting down", None, "another server"))

    async def _responses(self, request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        """Give the one answer of a request, or its two if it wants to be answered progressively."""
        try:
            call = self._read(request, context, "ModelStreamInfer")
            first, call = take_first_step(call)
            if first is not None:
                outcome, can_improve = await self._answer(first)
                yield _stream_response(outcome, request.id, is_final=not can_improve)
                if not can_improve:
                    return
            outcome, _ = await self._answer(call)
            yield _stream_response(outcome, request.id, is_final=True)
        except asyncio.CancelledError as error:
            yield _stream_failure(self._doors.refusal(error), request)
        except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets an answer
            yield _stream_failure(to_serve_error(error, "ModelStreamInfer"), request)
            forget_frames(error)

    def _is_known(self, context: grpc.aio.ServicerContext) -> bool:
        """Refuse a whole stream to a stranger; each of its requests is judged again, for a key may be withdrawn."""
        if self._access is None:
            return True
        try:
            self._access.admit("ModelStreamInfer", context)
        except ServeError as error:
            self._metrics.refused(error, protocol=PROTOCOL)
            refuse(context, error)
            return False
        return True

    def _read(self, request: Any, context: grpc.aio.ServicerContext, rpc: str) -> Infer:
        if self._plane.engine.tracer is not None:
            CALLER.set(dict(context.invocation_metadata() or ()).get("traceparent"))
        with self._counting():
            caller = None if self._access is None else self._access.admit(rpc, context)
            return to_infer(
                readable(request),
                request_id=new_request_id(),
                arrival_s=time.monotonic(),
                time_left_s=context.time_remaining(),
                tenant=None if caller is None else caller.tenant,
            )

    async def _answer(self, call: Infer) -> tuple[Outcome, bool]:
        """Return the outcome, and whether a larger cap could better it."""
        with self._counting():
            request, answering = await self._plane.prepare(call)
        answer = await self._plane.engine.infer(request)
        return answering(answer), is_cut_short(answer)

    @contextlib.contextmanager
    def _counting(self) -> Any:
        """Count a refusal, which the engine will never see."""
        try:
            yield
        except asyncio.CancelledError as error:
            refusal = self._doors.refusal(error)
            self._metrics.refused(refusal, protocol=PROTOCOL)
            raise refusal from None
        except ServeError as error:
            self._metrics.refused(error, protocol=PROTOCOL)
            raise


def _stream_response(outcome: Outcome, name: str, *, is_final: bool) -> Any:
    response = to_response(outcome, name)
    set_values(response.parameters, {_FINAL: is_final})
    return pb.ModelStreamInferResponse(infer_response=response)


def _stream_failure(error: ServeError, request: Any) -> Any:
    name = getattr(request, "id", "")  # one that could not be read has none
    return pb.ModelStreamInferResponse(error_message=str(error), infer_response=pb.ModelInferResponse(id=name))
