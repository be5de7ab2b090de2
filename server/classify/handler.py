"""`POST /v1/classify`: parse, decode, ask the engine, render. Nothing is decoded for a call refused before."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from server.classify.answers import to_answer
from server.classify.bodies import Body, Upload, read_body
from server.engine import Engine
from server.errors import BadRequest, ModelNotReady
from server.image_limits import PixelBudget
from server.images import Picture, decode
from server.manifest import Manifest, Preprocessing
from server.params import Options, read_fields, read_headers, read_query, to_options
from server.records import InferAnswer, InferRequest
from server.settings import Settings
from server.wire import Call, Reply, json_reply, while_connected

PROTOCOL = "classify"
_QUICK_BYTES = 256 * 1024
"""A form or JSON document up to this size is taken apart on the event loop, in about a millisecond."""


class Classify:
    """Answers classify calls with one engine; images are decoded in threads of its own."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._json_limits = settings.json_limits
        self._decoders = ThreadPoolExecutor(settings.num_threads, thread_name_prefix="decode")

    def close(self) -> None:
        """Let the decoding threads end."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, call: Call) -> Reply:
        """Answer one call.

        Raises: ServeError, whose status the error renderer knows.
        """
        query, headers = read_query(call), read_headers(call)
        body = await self._take_apart(await call.body(), call.header(b"content-type") or "")
        options = to_options(query=query, body=read_fields(body.fields, body.place), headers=headers)
        model = options.model or self._engine.repository.default()
        manifest = self._engine.shelf.manifest(model, options.version)
        if not self._engine.is_admitting:
            raise ModelNotReady("the server is not ready", model, "a started server", retry_after_s=1)
        pictures = await self._decode(body.uploads, _target(manifest))
        answer = await self._infer(call, options, model, pictures)
        files = [upload.file for upload in body.uploads]
        placements = [picture.placement for picture in pictures]
        return json_reply(to_answer(answer, manifest, files, placements, options.top_k))

    async def _take_apart(self, content: bytes, content_type: str) -> Body:
        parse = partial(
            read_body, content, content_type, max_files=self._settings.max_files, json_limits=self._json_limits
        )
        if len(content) <= _QUICK_BYTES:
            return parse()
        return await asyncio.get_running_loop().run_in_executor(self._decoders, parse)

    async def _decode(self, uploads: Sequence[Upload], target: Preprocessing) -> list[Picture]:
        run, max_pixels = asyncio.get_running_loop().run_in_executor, self._settings.max_pixels
        budget = PixelBudget(self._settings.max_request_pixels)
        jobs = [run(self._decoders, _decode_one, upload, target, max_pixels, budget) for upload in uploads]
        if len(jobs) == 1:
            return [await jobs[0]]
        return list(await asyncio.gather(*jobs))

    async def _infer(self, call: Call, options: Options, model: str, pictures: Sequence[Picture]) -> InferAnswer:
        request = InferRequest(
            request_id=call.request_id,
            model=model,
            version=options.version,
            inputs_BX=np.stack([picture.pixels_HW3 for picture in pictures]),
            arrival_s=call.arrival_s,
            ask=options.ask,
            explain=options.explain,
            protocol=PROTOCOL,
            tenant=None if call.caller is None else call.caller.tenant,
        )
        call.is_counted = True
        return await while_connected(call, self._engine.infer(request))


def _target(manifest: Manifest) -> Preprocessing:
    """Return what images become.

    Raises: BadRequest for a family that takes none.
    """
    if manifest.preprocessing is None:
        got = f"{manifest.family}, which takes {manifest.input.name}"
        raise BadRequest("model", got, f"a family of images; ask this one at /v2/models/{manifest.family}/infer")
    return manifest.preprocessing


def _decode_one(upload: Upload, target: Preprocessing, max_pixels: int, budget: PixelBudget) -> Picture:
    return decode(upload.to_bytes(), target, max_pixels=max_pixels, budget=budget)
