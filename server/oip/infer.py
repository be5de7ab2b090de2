"""`POST /v2/models/{model}/infer`: unpack, judge, ask the engine, render."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from server.dataplane import DataPlane, OipRequest
from server.dataplane.asks import HEADERS
from server.http.compression import decompress, is_encoded
from server.http.exchange import HttpReply, HttpRequest, while_connected
from server.oip.replies import to_reply
from server.oip.requests import Message, read_header_length, read_message, read_raw
from server.params import read_headers
from server.settings import Settings

PROTOCOL = "oip"
T = TypeVar("T")
_QUICK_BYTES = 256 * 1024
"""A JSON document up to this size is taken apart on the event loop, in about a millisecond."""


class InferHandler:
    """Answers infer calls."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane = plane
        self._max_body_bytes = settings.max_body_bytes
        self._json_limits = settings.json_limits

    async def __call__(self, call: HttpRequest, model: str, version: str | None) -> HttpReply:
        """Answer one call; a client that leaves after its body takes all of it back.

        Raises: ServeError, whose status the error renderer knows.
        """
        return await while_connected(call, self._answer(call, await call.body(), model, version))

    async def _answer(self, call: HttpRequest, body: bytes, model: str, version: str | None) -> HttpReply:
        head, inputs = await self._read(call, body, model, version)
        request, answering = await self._plane.prepare(
            OipRequest(
                model=model,
                version=version,
                inputs=inputs,
                request_id=call.request_id,
                arrival_s=call.arrival_s,
                protocol=PROTOCOL,
                outputs=head.outputs,
                parameters=head.parameters,
                defaults=read_headers(call, HEADERS),
                tenant=None if call.caller is None else call.caller.tenant,
                plans=head.plans,
            )
        )
        call.is_counted = True
        answer = await self._plane.engine.infer(request)
        return to_reply(answering(answer), head, call.header(b"accept-encoding"))

    async def _read(self, call: HttpRequest, body: bytes, model: str, version: str | None) -> Message:
        coding = call.header(b"content-encoding")
        if coding is not None and is_encoded(coding):
            body = await self._run(partial(decompress, body, coding, max_bytes=self._max_body_bytes))
        length = read_header_length(call.header(b"inference-header-content-length"), len(body))
        if length == 0:
            return read_raw(body, self._plane.direct_port(model, version))
        if (len(body) if length is None else length) <= _QUICK_BYTES:
            return read_message(body, length, self._json_limits)
        return await self._run(partial(read_message, body, length, self._json_limits))

    def _run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._plane.threads, work)
