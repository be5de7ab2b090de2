"""`POST /v2/models/{model}/infer`: parse, check, infer, render."""

from functools import partial
from typing import Any

from server.dataplane import DataPlane, OipRequest, OipResponse
from server.dataplane.budget_parameters import HEADERS
from server.http.compression import choose_coding, compress, decompress, is_encoded
from server.http.exchange import HttpReply, HttpRequest, json_reply, while_connected
from server.oip.infer_body import InferBody, InferDocument, read_header_length, read_infer_body, read_raw
from server.params import read_headers
from server.settings import Settings

PROTOCOL = "oip"
HEADER_LENGTH = "Inference-Header-Content-Length"
Json = dict[str, Any]
_QUICK_BYTES = 256 * 1024
"""A JSON document up to this size is parsed on the event loop, in about a millisecond."""


class InferHandler:
    """Answers infer requests."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane = plane
        self._max_body_bytes = settings.max_body_bytes
        self._json_limits = settings.json_limits

    async def __call__(self, request: HttpRequest, model: str, version: str | None) -> HttpReply:
        """Answer one request; it is cancelled if its client disconnects.

        Raises: ServeError, whose status the error renderer knows.
        """
        return await while_connected(request, self._answer(request, await request.body(), model, version))

    async def _answer(self, request: HttpRequest, body: bytes, model: str, version: str | None) -> HttpReply:
        document, inputs = await self._read(request, body, model, version)
        infer_request, builder = await self._plane.prepare(
            OipRequest(
                model=model,
                version=version,
                inputs=inputs,
                request_id=request.request_id,
                arrival_s=request.arrival_s,
                protocol=PROTOCOL,
                outputs=document.outputs,
                parameters=document.parameters,
                defaults=read_headers(request, HEADERS),
                tenant=None if request.caller is None else request.caller.tenant,
                plans=document.plans,
            )
        )
        request.is_counted = True
        answer = await self._plane.engine.infer(infer_request)
        return to_reply(builder(answer), document, request.header(b"accept-encoding"))

    async def _read(self, request: HttpRequest, body: bytes, model: str, version: str | None) -> InferBody:
        coding = request.header(b"content-encoding")
        if coding is not None and is_encoded(coding):
            body = await self._plane.decode_pool.run(partial(decompress, body, coding, max_bytes=self._max_body_bytes))
        length = read_header_length(request.header(b"inference-header-content-length"), len(body))
        if length == 0:
            return read_raw(body, self._plane.direct_spec(model, version))
        if (len(body) if length is None else length) <= _QUICK_BYTES:
            return read_infer_body(body, length, self._json_limits)
        return await self._plane.decode_pool.run(partial(read_infer_body, body, length, self._json_limits))


def to_reply(response: OipResponse, document: InferDocument, accepted: str | None) -> HttpReply:
    """Render a response as the request's document asks, compressed where the caller accepts it."""
    outputs: list[Json] = []
    binary: list[bytes] = []
    for tensor in response.outputs:
        output: Json = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if document.is_binary.get(tensor.name, document.is_binary_default):
            raw = tensor.to_raw()
            output["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            output["data"] = tensor.to_values()
        outputs.append(output)
    fields = {"model_name": response.model, "model_version": response.version}
    if document.id is not None:
        fields["id"] = document.id
    reply = json_reply({**fields, "parameters": response.parameters, "outputs": outputs})
    return _compressed(_with_binary(reply, binary) if binary else reply, accepted)


def _with_binary(reply: HttpReply, binary: list[bytes]) -> HttpReply:
    body = b"".join((reply.body, *binary))
    return HttpReply(body, content_type="application/octet-stream", headers=((HEADER_LENGTH, str(len(reply.body))),))


def _compressed(reply: HttpReply, accepted: str | None) -> HttpReply:
    coding = choose_coding(accepted)
    if coding is None:
        return reply
    headers = (*reply.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
    return HttpReply(compress(reply.body, coding), reply.status, reply.content_type, headers)
