"""Requests over gRPC: single ones, streams, and progressive ones, which are answered twice."""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from loadtest.lean_http import CONNECTION_LOST
from loadtest.soak.client_log import ANONYMOUS
from loadtest.soak.inputs import Inputs, Picture
from loadtest.tenants import FRUGAL

PROTOCOL = "oip_grpc"
SERVICE = "/inference.GRPCInferenceService/"
MAX_IN_STREAM = 4
MIN_PATIENCE_S, MAX_PATIENCE_S = 0.005, 0.03
"""The time until an abandoned request is cancelled: one that is cancelled too soon never reaches the server."""
STATUS = {
    grpc.StatusCode.OK: 200, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499, grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}  # fmt: skip


class RpcCalls:
    """Sends requests and logs their answers."""

    def __init__(self, inputs: Inputs, address: str) -> None:
        self._inputs = inputs
        self._random = inputs.random
        self._channel = grpc.aio.insecure_channel(address)
        self._infer = self._channel.unary_unary(
            SERVICE + "ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        self._stream = self._channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )

    async def close(self) -> None:
        await self._channel.close()

    # --- Calls that are answered ---

    async def infer(self) -> None:
        """Send a batch."""
        pictures = [self._inputs.picture() for _ in range(self._random.randint(1, MAX_IN_STREAM))]
        await self._ask(self._message(pictures, self._inputs.cap()), self._inputs.caller(), pictures, 200)

    async def spend(self) -> None:
        """Ask as the tenant whose quota is soon spent: an answer, or RESOURCE_EXHAUSTED."""
        picture = self._inputs.picture()
        await self._ask(self._message([picture], self._inputs.cap()), FRUGAL, [picture], 200, 429)

    async def stream(self) -> None:
        """Ask several times on one stream: some want a first answer soon, and some are refused."""
        tenant, asked, messages = self._inputs.caller(), {}, []
        for number in range(self._random.randint(1, MAX_IN_STREAM)):
            message = self._message([picture := self._inputs.picture()], self._inputs.cap())
            message.id, asked[str(number)] = str(number), picture
            if self._random.random() < 0.1:
                message.model_name = "nobody"
            elif self._random.random() < 0.5:
                message.parameters["progressive"].bool_param = True
            messages.append(message)
        refused = {message.id for message in messages if message.model_name == "nobody"}
        unanswered = set(asked)
        try:
            async for response in self._stream(messages, metadata=self._metadata(tenant)):
                unanswered -= self._take(response, tenant, asked, refused)
        except grpc.aio.AioRpcError as error:
            self._inputs.log.add(PROTOCOL, STATUS.get(error.code(), 500), 200, f"a stream: {error.details()}")
        for name in unanswered:
            self._inputs.log.add(
                PROTOCOL, CONNECTION_LOST.status, 200, f"no final answer to request {name} of a stream"
            )

    def _take(self, response: Any, tenant: str, asked: dict[str, Picture], refused: set[str]) -> set[str]:
        """Note one response of a stream; return the request that it was the last for, if it was."""
        name = response.infer_response.id
        expected = 404 if name in refused else 200
        if response.error_message:
            status = 404 if "nobody" in response.error_message else 500
            self._inputs.log.add(PROTOCOL, status, expected, response.error_message)
            return {name}
        self._inputs.log.add(PROTOCOL, 200, expected)
        self._receipt(response.infer_response, tenant, [asked[name]])
        is_final = response.infer_response.parameters["triton_final_response"].bool_param
        return {name} if is_final else set()

    # --- Calls that leave early: at cap 0, so that each costs the same if it is answered all the same ---

    async def leave(self) -> None:
        self._inputs.log.add_abandoned(PROTOCOL)
        call = self._infer(self._message([self._inputs.picture()], 0))
        await asyncio.wait([asyncio.ensure_future(call)], timeout=self._patience_s())
        call.cancel()

    async def leave_stream(self) -> None:
        messages = [self._message([self._inputs.picture()], 0) for _ in range(2)]
        for _ in messages:
            self._inputs.log.add_abandoned(PROTOCOL)
        call = self._stream(messages)
        await asyncio.sleep(self._patience_s())
        call.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.code()

    # --- Calls that are refused ---

    async def refused(self) -> None:
        picture = self._inputs.picture()
        wrong = self._message([picture], 0)
        wrong.inputs[0].shape[1] += 1
        nobody, stranger = pb.ModelInferRequest(model_name="nobody"), (("x-api-key", "no-such-key"),)
        message, metadata, status = self._random.choice(
            [(wrong, (), 400), (nobody, (), 404), (self._message([picture], 0), stranger, 401)]
        )
        await self._call(message, metadata, ANONYMOUS, [picture], status)

    # --- Pieces ---

    async def _ask(self, message: Any, tenant: str, pictures: list[Picture], *allowed: int) -> None:
        await self._call(message, self._metadata(tenant), tenant, pictures, *allowed)

    async def _call(
        self, message: Any, metadata: tuple[tuple[str, str], ...], tenant: str, pictures: list[Picture], *allowed: int
    ) -> None:
        """Make a call, of which one of these statuses is expected."""
        try:
            response = await self._infer(message, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            status = STATUS.get(error.code(), 500)
            self._inputs.log.add(PROTOCOL, status, status if status in allowed else allowed[0], str(error.details()))
        else:
            self._inputs.log.add(PROTOCOL, 200, 200 if 200 in allowed else allowed[0])
            self._receipt(response, tenant, pictures)

    def _receipt(self, response: Any, tenant: str, pictures: list[Picture]) -> None:
        receipt = response.parameters
        useful, executed = (receipt[name].int64_param for name in ("useful_flops", "executed_flops"))
        if len(pictures) == 1:
            self._inputs.log.add_cost((pictures[0].number, "image/png", receipt["cap"].int64_param), useful)
        self._inputs.log.add_receipts(tenant, len(pictures), useful, executed)

    def _metadata(self, tenant: str) -> tuple[tuple[str, str], ...]:
        return tuple(self._inputs.key_of(tenant).items())

    def _patience_s(self) -> float:
        return self._random.uniform(MIN_PATIENCE_S, MAX_PATIENCE_S)

    def _message(self, pictures: list[Picture], cap: int) -> Any:
        shape = [len(pictures), *self._inputs.size, 3]
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=shape)
        raw = [b"".join(picture.pixels_HW3.tobytes() for picture in pictures)]
        message = pb.ModelInferRequest(model_name=self._inputs.name, inputs=[tensor], raw_input_contents=raw)
        message.parameters["max_tape"].int64_param = cap
        return message
