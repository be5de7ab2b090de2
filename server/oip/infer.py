"""`POST /v2/models/{model}/infer`: unpack, judge, ask the engine, render."""

from functools import partial

from server.dataplane import DataPlane, OipRequest
from server.dataplane.budget_parameters import HEADERS
from server.http.compression import decompress, is_encoded
from server.http.exchange import HttpReply, HttpRequest, while_connected
from server.oip.replies import to_reply
from server.oip.requests import Message, read_header_length, read_message, read_raw
from server.params import read_headers
from server.settings import Settings

PROTOCOL = "oip"
_QUICK_BYTES = 256 * 1024
"""A JSON document up to this size is taken apart on the event loop, in about a millisecond."""


class InferHandler:
    """Answers infer calls."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane = plane
        self._max_body_bytes = settings.max_body_bytes
        self._json_limits = settings.json_limits

    async def __call__(self, request: HttpRequest, model: str, version: str | None) -> HttpReply:
        """Answer one call; a client that leaves after its body takes all of it back.

        Raises: ServeError, whose status the error renderer knows.
        """
        return await while_connected(request, self._answer(request, await request.body(), model, version))

    async def _answer(self, request: HttpRequest, body: bytes, model: str, version: str | None) -> HttpReply:
        head, inputs = await self._read(request, body, model, version)
        infer_request, builder = await self._plane.prepare(
            OipRequest(
                model=model,
                version=version,
                inputs=inputs,
                request_id=request.request_id,
                arrival_s=request.arrival_s,
                protocol=PROTOCOL,
                outputs=head.outputs,
                parameters=head.parameters,
                defaults=read_headers(request, HEADERS),
                tenant=None if request.caller is None else request.caller.tenant,
                plans=head.plans,
            )
        )
        request.is_counted = True
        answer = await self._plane.engine.infer(infer_request)
        return to_reply(builder(answer), head, request.header(b"accept-encoding"))

    async def _read(self, request: HttpRequest, body: bytes, model: str, version: str | None) -> Message:
        coding = request.header(b"content-encoding")
        if coding is not None and is_encoded(coding):
            body = await self._plane.decode_pool.run(partial(decompress, body, coding, max_bytes=self._max_body_bytes))
        length = read_header_length(request.header(b"inference-header-content-length"), len(body))
        if length == 0:
            return read_raw(body, self._plane.direct_spec(model, version))
        if (len(body) if length is None else length) <= _QUICK_BYTES:
            return read_message(body, length, self._json_limits)
        return await self._plane.decode_pool.run(partial(read_message, body, length, self._json_limits))
