"""`POST /v1/classify`: parse, decode, infer, render. Images of a request that is refused are not decoded."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from server.classify.answers import to_answer
from server.classify.body import ClassifyBody, read_body
from server.engine import Engine
from server.errors import BadRequest, ModelNotReady
from server.http.exchange import HttpReply, HttpRequest, json_reply, while_connected
from server.images import DecodePool, Picture
from server.models.manifest import Manifest, Preprocessing
from server.params import Options, read_fields, read_headers, read_query, to_options
from server.records import InferAnswer, InferRequest
from server.settings import Settings

PROTOCOL = "classify"
_QUICK_BYTES = 256 * 1024
"""A form or JSON document up to this size is parsed on the event loop, in about a millisecond."""


class ClassifyHandler:
    """Answers classify requests with one engine. The decode pool decodes images and parses large bodies."""

    def __init__(self, engine: Engine, settings: Settings, decode_pool: DecodePool) -> None:
        self._engine = engine
        self._settings = settings
        self._json_limits = settings.json_limits
        self._decode_pool = decode_pool

    async def __call__(self, request: HttpRequest) -> HttpReply:
        """Answer one request; it is cancelled if its client disconnects.

        Raises: ServeError, whose status the error renderer knows.
        """
        return await while_connected(request, self._answer(request, await request.body()))

    async def _answer(self, request: HttpRequest, content: bytes) -> HttpReply:
        query, headers = read_query(request), read_headers(request)
        body = await self._parse(content, request.header(b"content-type") or "")
        options = to_options(query=query, body=read_fields(body.fields, body.place), headers=headers)
        model = options.model or self._engine.repository.default()
        manifest = self._engine.shelf.manifest(model, options.version)
        if not self._engine.is_admitting:
            raise ModelNotReady("the server is not ready", model, "a started server", retry_after_s=1)
        pictures = await self._decode_pool.decode(
            [upload.to_bytes for upload in body.uploads], _target(manifest), options.ask.deadline_at(request.arrival_s)
        )
        answer = await self._infer(request, options, model, pictures)
        files = [upload.file for upload in body.uploads]
        placements = [picture.placement for picture in pictures]
        return json_reply(to_answer(answer, manifest, files, placements, options.top_k))

    async def _parse(self, content: bytes, content_type: str) -> ClassifyBody:
        parse = partial(
            read_body, content, content_type, max_files=self._settings.max_files, json_limits=self._json_limits
        )
        return parse() if len(content) <= _QUICK_BYTES else await self._decode_pool.run(parse)

    async def _infer(
        self, request: HttpRequest, options: Options, model: str, pictures: Sequence[Picture]
    ) -> InferAnswer:
        infer_request = InferRequest(
            request_id=request.request_id,
            model=model,
            version=options.version,
            inputs_BX=np.stack([picture.pixels_HW3 for picture in pictures]),
            arrival_s=request.arrival_s,
            ask=options.ask,
            explain=options.explain,
            protocol=PROTOCOL,
            tenant=None if request.caller is None else request.caller.tenant,
        )
        request.is_counted = True
        return await self._engine.infer(infer_request)


def _target(manifest: Manifest) -> Preprocessing:
    """Return the size and form that the model's images have.

    Raises: BadRequest for a family that takes no images.
    """
    if manifest.preprocessing is None:
        got = f"{manifest.family}, which takes {manifest.input.name}"
        raise BadRequest("model", got, f"a family of images; ask this one at /v2/models/{manifest.family}/infer")
    return manifest.preprocessing
