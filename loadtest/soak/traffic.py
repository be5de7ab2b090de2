"""What is asked: calls of every surface, calls that leave early, and calls that ought to be refused."""

import asyncio
import io
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from loadtest.soak.book import Book
from loadtest.wire import Client, render

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
MAX_PATIENCE_S = 0.03
"""How long a fickle caller waits at most."""
LOST = 0
_GRPC_STATUS = {
    grpc.StatusCode.OK: 200, grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504, grpc.StatusCode.UNAVAILABLE: 503, grpc.StatusCode.CANCELLED: 499,
}  # fmt: skip
_FORM = "multipart/form-data; boundary=b"


class Traffic:
    """Draws calls, makes them and writes down what comes of them."""

    def __init__(
        self, url: str, grpc_address: str, model: dict[str, Any], book: Book, seed: int, frugal_key: str
    ) -> None:
        self._name = model["name"]
        size = model["preprocessing"]["height"], model["preprocessing"]["width"]
        self._capacity = model["tape_capacity"]
        self._book = book
        self._frugal = {"X-API-Key": frugal_key}
        self._random = random.Random(seed)
        self._client = Client(url)
        self._host, self._port = url.removeprefix("http://").rsplit(":", 1)
        self._channel = grpc.aio.insecure_channel(grpc_address)
        self._infer = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        self._shape = [1, *size, 3]
        self._pixels = np.random.default_rng(seed).integers(0, 256, (32, *size, 3), np.uint8)
        self._pictures = [_to_png(pixels) for pixels in self._pixels]
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.classify: 30, self.form: 8, self.infer: 20, self.infer_json: 4, self.rpc: 15,
            self.spend: 8, self.leave: 8, self.leave_rpc: 4, self.refused: 8, self.late: 2, self.refused_rpc: 1,
        }  # fmt: skip

    async def one(self) -> None:
        """Make one call of a kind that is drawn."""
        (make,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
        await make()

    def gap_s(self, rate: float) -> float:
        """Draw the time to the next call."""
        return self._random.expovariate(rate)

    async def close(self) -> None:
        await self._client.close()
        await self._channel.close()

    # --- Calls that are answered ---

    async def classify(self) -> None:
        document = await self._post(f"/v1/classify?{self._query()}", self._picture(), "image/png", "classify", 200)
        self._receipts(document)

    async def form(self) -> None:
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n\r\n%s\r\n' % (n, self._picture())
            for n in range(self._random.randint(1, 4))
        ]
        body = b"".join(parts) + b"--b--\r\n"
        self._receipts(await self._post(f"/v1/classify?{self._query()}", body, _FORM, "classify", 200))

    async def infer(self) -> None:
        pixels = self._draw()
        tensor = {"name": "image", "datatype": "UINT8", "shape": self._shape}
        document = {"inputs": [{**tensor, "parameters": {"binary_data_size": pixels.nbytes}}]}
        head = json.dumps({**document, "parameters": {"max_tape": self._cap()}}).encode()
        extra = {"Inference-Header-Content-Length": str(len(head))}
        answer = await self._post(self._path(), head + pixels.tobytes(), "application/octet-stream", "oip", 200, extra)
        self._parameters(answer)

    async def infer_json(self) -> None:
        tensor = {"name": "image", "datatype": "UINT8", "shape": self._shape, "data": self._draw().ravel().tolist()}
        body = json.dumps({"inputs": [tensor], "parameters": {"max_tape": self._cap()}}).encode()
        self._parameters(await self._post(self._path(), body, "application/json", "oip", 200))

    async def rpc(self) -> None:
        try:
            response = await self._infer(self._message(self._cap()))
        except grpc.aio.AioRpcError as error:
            self._book.add("oip_grpc", _GRPC_STATUS.get(error.code(), 500), 200, str(error.details()))
        else:
            self._book.add("oip_grpc", 200, 200)
            self._book.answered(1, response.parameters["useful_flops"].int64_param)

    async def spend(self) -> None:
        """Ask as the tenant whose quota is soon spent: an answer, or 429."""
        path, either = f"/v1/classify?{self._query()}", (200, 429)
        document = await self._post(path, self._picture(), "image/png", "classify", either, self._frugal)
        self._book.frugal_flops += self._receipts(document)

    # --- Calls that leave early: at cap 0, so that each costs the same if it is answered all the same ---

    async def leave(self) -> None:
        call = render(f"/v1/classify?model={self._name}&max_tape=0", self._picture(), {"Content-Type": "image/png"})
        self._book.left("classify")
        _, writer = await asyncio.open_connection(self._host, int(self._port))
        writer.write(call)
        await writer.drain()
        await asyncio.sleep(self._random.uniform(0, MAX_PATIENCE_S))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def leave_rpc(self) -> None:
        """Wait a little in any case: a call that is cancelled before it was sent never reaches the server."""
        self._book.left("oip_grpc")
        call = self._infer(self._message(0))
        await asyncio.wait([asyncio.ensure_future(call)], timeout=self._random.uniform(0.005, MAX_PATIENCE_S))
        call.cancel()

    # --- Calls that are refused ---

    async def refused(self) -> None:
        path, body, kind, protocol, status = self._random.choice(
            [
                ("/v1/classify", b"no image", "image/png", "classify", 415),
                ("/v1/classify?max_tape=-1", self._picture(), "image/png", "classify", 400),
                ("/v1/classify?model=nobody", self._picture(), "image/png", "classify", 404),
                ("/v1/classify", b"{", "application/json", "classify", 400),
                ("/v1/classify", b"--b\r\nbroken", _FORM, "classify", 400),
                (self._path(), b'{"inputs":[]}', "application/json", "oip", 400),
                ("/v2/models/nobody/infer", b'{"inputs":[]}', "application/json", "oip", 404),
                ("/v2/health/live", b"", "text/plain", "oip", 405),
            ]
        )
        await self._post(path, body, kind, protocol, status)

    async def late(self) -> None:
        await self._post("/v1/classify?deadline_ms=0.001", self._picture(), "image/png", "classify", 504)

    async def refused_rpc(self) -> None:
        try:
            await self._infer(pb.ModelInferRequest(model_name="nobody"))
        except grpc.aio.AioRpcError as error:
            self._book.add("oip_grpc", _GRPC_STATUS.get(error.code(), 500), 404, str(error.details()))
        else:
            self._book.add("oip_grpc", 200, 404)

    # --- Pieces ---

    async def _post(
        self, path: str, body: bytes, kind: str, protocol: str, expected: int | tuple[int, ...],
        extra: dict[str, str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Make a call; a connection that was closed while it was idle costs a second try. Return the answer's JSON."""
        allowed = expected if isinstance(expected, tuple) else (expected,)
        call = render(path, body, {"Content-Type": kind, **(extra or {})})
        reply = await self._client.ask(call)
        if reply.status == LOST:
            reply = await self._client.ask(call)
        fits = reply.status if reply.status in allowed else allowed[0]
        self._book.add(protocol, reply.status, fits, reply.body.decode("utf-8", "replace"))
        if reply.status != 200 or 200 not in allowed:
            return {}
        return dict(json.loads(reply.body))

    def _receipts(self, document: dict[str, Any]) -> int:
        """Note an answer's receipts, and return what they add up to."""
        results = document.get("results", [])
        useful_flops: int = sum(result["receipt"]["useful_flops"] for result in results)
        self._book.answered(len(results), useful_flops)
        return useful_flops

    def _parameters(self, document: dict[str, Any]) -> None:
        if document:
            self._book.answered(1, document["parameters"]["useful_flops"])

    def _query(self) -> str:
        return f"model={self._name}&max_tape={self._cap()}&top_k={self._random.randint(1, 5)}"

    def _path(self) -> str:
        return f"/v2/models/{self._name}/infer"

    def _cap(self) -> int:
        return self._random.randint(0, self._capacity + 1)

    def _picture(self) -> bytes:
        return self._random.choice(self._pictures)

    def _draw(self) -> Pixels:
        pixels_HW3: Pixels = self._pixels[self._random.randrange(len(self._pixels))]
        return pixels_HW3

    def _message(self, cap: int) -> Any:
        tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=self._shape)
        raw = [self._draw().tobytes()]
        message = pb.ModelInferRequest(model_name=self._name, inputs=[tensor], raw_input_contents=raw)
        message.parameters["max_tape"].int64_param = cap
        return message


def _to_png(pixels_HW3: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG")
    return buffer.getvalue()
