"""Calls over gRPC: one by one, as streams, and progressive ones, which are answered twice."""

import asyncio
from contextlib import suppress
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from loadtest.soak.book import ANONYMOUS
from loadtest.soak.scene import Picture, Scene
from loadtest.tenants import FRUGAL
from loadtest.wire import LOST

PROTOCOL = "oip_grpc"
SERVICE = "/inference.GRPCInferenceService/"
MAX_IN_STREAM = 4
MIN_PATIENCE_S, MAX_PATIENCE_S = 0.005, 0.03
"""How long a fickle caller waits: what is cancelled before it was sent never reaches the server."""
STATUS = {
    grpc.StatusCode.OK: 200, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403, grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499, grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}  # fmt: skip


class RpcCalls:
    """Makes calls and writes down what comes of them."""

    def __init__(self, scene: Scene, address: str) -> None:
        self._scene = scene
        self._random = scene.random
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
        pictures = [self._scene.picture() for _ in range(self._random.randint(1, MAX_IN_STREAM))]
        await self._ask(self._message(pictures, self._scene.cap()), self._scene.caller(), pictures, 200)

    async def spend(self) -> None:
        """Ask as the tenant whose quota is soon spent: an answer, or RESOURCE_EXHAUSTED."""
        picture = self._scene.picture()
        await self._ask(self._message([picture], self._scene.cap()), FRUGAL, [picture], 200, 429)

    async def stream(self) -> None:
        """Ask several times on one stream: some want a first answer soon, and some are refused."""
        tenant, asked, messages = self._scene.caller(), {}, []
        for number in range(self._random.randint(1, MAX_IN_STREAM)):
            message = self._message([picture := self._scene.picture()], self._scene.cap())
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
            self._scene.book.add(PROTOCOL, STATUS.get(error.code(), 500), 200, f"a stream: {error.details()}")
        for name in unanswered:
            self._scene.book.add(PROTOCOL, LOST.status, 200, f"no final answer to request {name} of a stream")

    def _take(self, response: Any, tenant: str, asked: dict[str, Picture], refused: set[str]) -> set[str]:
        """Note one response of a stream; return the request that it was the last for, if it was."""
        name = response.infer_response.id
        expected = 404 if name in refused else 200
        if response.error_message:
            status = 404 if "nobody" in response.error_message else 500
            self._scene.book.add(PROTOCOL, status, expected, response.error_message)
            return {name}
        self._scene.book.add(PROTOCOL, 200, expected)
        self._receipt(response.infer_response, tenant, [asked[name]])
        is_final = response.infer_response.parameters["triton_final_response"].bool_param
        return {name} if is_final else set()

    # --- Calls that leave early: at cap 0, so that each costs the same if it is answered all the same ---

    async def leave(self) -> None:
        self._scene.book.left(PROTOCOL)
        call = self._infer(self._message([self._scene.picture()], 0))
        await asyncio.wait([asyncio.ensure_future(call)], timeout=self._patience_s())
        call.cancel()

    async def leave_stream(self) -> None:
        messages = [self._message([self._scene.picture()], 0) for _ in range(2)]
        for _ in messages:
            self._scene.book.left(PROTOCOL)
        call = self._stream(messages)
        await asyncio.sleep(self._patience_s())
        call.cancel()
        with suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await call.code()

    # --- Calls that are refused ---

    async def refused(self) -> None:
        picture = self._scene.picture()
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
            self._scene.book.add(PROTOCOL, status, status if status in allowed else allowed[0], str(error.details()))
        else:
            self._scene.book.add(PROTOCOL, 200, 200 if 200 in allowed else allowed[0])
            self._receipt(response, tenant, pictures)

    def _receipt(self, response: Any, tenant: str, pictures: list[Picture]) -> None:
        receipt = response.parameters
        useful, executed = (receipt[name].int64_param for name in ("useful_flops", "executed_flops"))
        if len(pictures) == 1:
            self._scene.book.costs((pictures[0].number, "image/png", receipt["cap"].int64_param), useful)
        self._scene.book.answered(tenant, len(pictures), useful, executed)

    def _metadata(self, tenant: str) -> tuple[tuple[str, str], ...]:
        return tuple(self._scene.key_of(tenant).items())

    def _patience_s(self) -> float:
        return self._random.uniform(MIN_PATIENCE_S, MAX_PATIENCE_S)

    def _message(self, pictures: list[Picture], cap: int) -> Any:
        shape = [len(pictures), *self._scene.size, 3]
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=shape)
        raw = [b"".join(picture.pixels_HW3.tobytes() for picture in pictures)]
        message = pb.ModelInferRequest(model_name=self._scene.name, inputs=[tensor], raw_input_contents=raw)
        message.parameters["max_tape"].int64_param = cap
        return message
