"""Requests over HTTP: `/v1/classify` and the Open Inference Protocol. Raw sockets, so that a request can be cut off."""

import asyncio
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from loadtest.lean_http import CONNECTION_LOST, Client, Reply, render
from loadtest.soak.client_log import ANONYMOUS
from loadtest.soak.inputs import Inputs, Picture
from loadtest.tenants import FRUGAL, STEADY

MAX_IMAGES = 4
MAX_PATIENCE_S = 0.03
"""The longest time until the caller of an abandoned request disconnects."""
HALF_SHARE = 0.25
"""The share of abandoned requests that are cut off in the middle of the body."""
_FORM = "multipart/form-data; boundary=b"
_NUMBERED_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n\r\n%s\r\n'
Headers = Mapping[str, str]
Json = dict[str, Any]


class HttpCalls:
    """Sends requests and logs their answers."""

    def __init__(self, inputs: Inputs, url: str) -> None:
        self._inputs = inputs
        self._random = inputs.random
        self._client = Client(url)
        self._host, port = url.removeprefix("http://").rsplit(":", 1)
        self._port = int(port)
        self._infer_path = f"/v2/models/{inputs.name}/infer"

    async def close(self) -> None:
        await self._client.close()

    # --- Calls that are answered ---

    async def classify(self) -> None:
        """Send one file as it is."""
        tenant, picture = self._inputs.caller(), self._inputs.picture()
        content, kind = picture.draw_file(self._random)
        document = await self._ask(self._classify_path(), content, {"Content-Type": kind}, "classify", tenant)
        self._receipts(document, tenant, [(picture.number, kind)])

    async def form(self) -> None:
        """Send several files of both kinds in a form."""
        tenant, pictures = self._inputs.caller(), self._draw_some()
        files = [picture.draw_file(self._random) for picture in pictures]
        body = b"".join(_NUMBERED_FILE % (number, content) for number, (content, _) in enumerate(files)) + b"--b--\r\n"
        document = await self._ask(self._classify_path(), body, {"Content-Type": _FORM}, "classify", tenant)
        self._receipts(
            document, tenant, [(picture.number, kind) for picture, (_, kind) in zip(pictures, files, strict=True)]
        )

    async def base64(self) -> None:
        """Send several files as text in JSON."""
        tenant, pictures = self._inputs.caller(), self._draw_some()
        texts = [base64.b64encode(picture.png).decode() for picture in pictures]
        body = json.dumps({"images": texts, "model": self._inputs.name, "max_tape": self._inputs.cap()}).encode()
        document = await self._ask("/v1/classify", body, {"Content-Type": "application/json"}, "classify", tenant)
        self._receipts(document, tenant, [(picture.number, "image/png") for picture in pictures])

    async def infer(self) -> None:
        """Send a batch as binary tensors."""
        tenant, pictures = self._inputs.caller(), self._draw_some()
        await self._infer(tenant, pictures, 200)

    async def infer_json(self) -> None:
        """Send one sample as numbers in JSON."""
        tenant, picture = self._inputs.caller(), self._inputs.picture()
        tensor = self._tensor(1) | {"data": picture.pixels_HW3.ravel().tolist()}
        body = json.dumps({"inputs": [tensor], "parameters": {"max_tape": self._inputs.cap()}}).encode()
        document = await self._ask(self._infer_path, body, {"Content-Type": "application/json"}, "oip", tenant)
        self._parameters(document, tenant, [picture])

    async def spend(self) -> None:
        """Ask as the tenant whose quota is soon spent: an answer, or 429."""
        picture, either = self._inputs.picture(), (200, 429)
        if self._random.random() < 0.5:
            await self._infer(FRUGAL, [picture], *either)
            return
        kind = {"Content-Type": "image/png"}
        document = await self._ask(self._classify_path(), picture.png, kind, "classify", FRUGAL, *either)
        self._receipts(document, FRUGAL, [(picture.number, "image/png")])

    # --- Calls that leave early: at cap 0, so that each costs the same if it is answered all the same ---

    async def leave(self) -> None:
        content, kind = self._inputs.picture().draw_file(self._random)
        path = f"/v1/classify?model={self._inputs.name}&max_tape=0"
        await self._leave("classify", render(path, content, {"Content-Type": kind}))

    async def leave_infer(self) -> None:
        body, headers = self._to_binary([self._inputs.picture()], 0)
        await self._leave("oip", render(self._infer_path, body, headers))

    async def _leave(self, protocol: str, call: bytes) -> None:
        """Send a call, or only half of its body, and hang up."""
        self._inputs.log.add_abandoned(protocol)
        if self._random.random() < HALF_SHARE:
            call = call[: (call.index(b"\r\n\r\n") + 4 + len(call)) // 2]
        _, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(call)
        with suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(self._random.uniform(0, MAX_PATIENCE_S))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    # --- Calls that are refused ---

    async def refused(self) -> None:
        png, stranger = self._inputs.picture().png, {"x-api-key": "no-such-key"}
        load = f"/v2/repository/models/{self._inputs.name}/load"
        choices: list[tuple[str, bytes, Headers, str, int]] = [
            ("/v1/classify", b"no image", {"Content-Type": "image/png"}, "classify", 415),
            ("/v1/classify", png[: len(png) // 2], {"Content-Type": "image/png"}, "classify", 415),
            ("/v1/classify?max_tape=-1", png, {"Content-Type": "image/png"}, "classify", 400),
            ("/v1/classify?model=nobody", png, {"Content-Type": "image/png"}, "classify", 404),
            ("/v1/classify", b"{", {"Content-Type": "application/json"}, "classify", 400),
            ("/v1/classify", b"--b\r\nbroken", {"Content-Type": _FORM}, "classify", 400),
            ("/v1/classify", png, {"Content-Type": "image/png", **stranger}, "classify", 401),
            (self._infer_path, b'{"inputs":[]}', {"Content-Type": "application/json"}, "oip", 400),
            (self._infer_path, b"[" * 5000, {"Content-Type": "application/json"}, "oip", 400),
            ("/v2/models/nobody/infer", b'{"inputs":[]}', {"Content-Type": "application/json"}, "oip", 404),
            ("/v2/health/live", b"", {"Content-Type": "text/plain"}, "oip", 405),
            (load, b"", self._inputs.key_of(STEADY), "oip", 403),
        ]
        path, body, headers, protocol, status = self._random.choice(choices)
        await self._ask(path, body, headers, protocol, ANONYMOUS, status)

    async def late(self) -> None:
        """Ask for an answer that nobody could give in time."""
        headers = {"Content-Type": "image/png"}
        path = f"/v1/classify?model={self._inputs.name}&deadline_ms=0.001"
        await self._ask(path, self._inputs.picture().png, headers, "classify", ANONYMOUS, 504)

    # --- Pieces ---

    async def _infer(self, tenant: str, pictures: list[Picture], *allowed: int) -> None:
        body, headers = self._to_binary(pictures, self._inputs.cap())
        self._parameters(await self._ask(self._infer_path, body, headers, "oip", tenant, *allowed), tenant, pictures)

    async def _ask(self, path: str, body: bytes, headers: Headers, protocol: str, tenant: str, *allowed: int) -> Json:
        """Make a call, of which one of these statuses is expected, 200 by default; return the JSON of an answer.

        A connection that was closed while it was idle costs a second try.
        """
        allowed = allowed or (200,)
        call = render(path, body, {**headers, **self._inputs.key_of(tenant)})
        reply = await self._client.send(call)
        if reply is CONNECTION_LOST:
            reply = await self._client.send(call)
        expected = reply.status if reply.status in allowed else allowed[0]
        self._inputs.log.add(protocol, reply.status, expected, reply.body.decode("utf-8", "replace"))
        return _read(reply) if reply.status == 200 and 200 in allowed else {}

    def _receipts(self, document: Json, tenant: str, files: list[tuple[int, str]]) -> None:
        """Note the receipts of an answer to files, each the number of a picture and a media type."""
        if not document:
            return
        receipts = [result["receipt"] for result in document["results"]]
        for file, receipt in zip(files, receipts, strict=True):
            self._inputs.log.add_cost((*file, receipt["cap"]), receipt["useful_flops"])
        useful, executed = (sum(each[name] for each in receipts) for name in ("useful_flops", "executed_flops"))
        self._inputs.log.add_receipts(tenant, len(receipts), useful, executed)

    def _parameters(self, document: Json, tenant: str, pictures: list[Picture]) -> None:
        """Note the receipt of an answer to tensors; of a batch it is the sum."""
        if not document:
            return
        receipt = document["parameters"]
        if len(pictures) == 1:
            self._inputs.log.add_cost((pictures[0].number, "image/png", receipt["cap"]), receipt["useful_flops"])
        self._inputs.log.add_receipts(tenant, len(pictures), receipt["useful_flops"], receipt["executed_flops"])

    def _draw_some(self) -> list[Picture]:
        return [self._inputs.picture() for _ in range(self._random.randint(1, MAX_IMAGES))]

    def _classify_path(self) -> str:
        return (
            f"/v1/classify?model={self._inputs.name}&max_tape={self._inputs.cap()}&top_k={self._random.randint(1, 5)}"
        )

    def _tensor(self, num_samples: int) -> Json:
        return {"name": "image", "datatype": "UINT8", "shape": [num_samples, *self._inputs.size, 3]}

    def _to_binary(self, pictures: list[Picture], cap: int) -> tuple[bytes, dict[str, str]]:
        """Return a body of binary tensors and the headers that go with it."""
        pixels = b"".join(picture.pixels_HW3.tobytes() for picture in pictures)
        tensor = self._tensor(len(pictures)) | {"parameters": {"binary_data_size": len(pixels)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"max_tape": cap}}).encode()
        kind = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        return head + pixels, kind


def _read(reply: Reply) -> Json:
    return dict(json.loads(reply.body))
