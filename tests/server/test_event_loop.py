"""Nothing that a stranger sends holds up the event loop, and so everybody else, for more than `MAX_HOLD_S`.

A pulse beats on the loop; between two beats the process may use no more processor time than that, whichever thread
used it: other programs on the machine, which only take time from the clock, do not count.
"""

import asyncio
import base64
import gzip
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self

import numpy as np
import pytest
import uvicorn
import uvloop
from PIL import Image
from uvicorn.server import ServerState

from server.http.arrivals import ArrivalEstimator
from server.http.bounded_json import TEXT_BYTES
from server.http.connection_limits import ConnectionLimiter
from server.http.protocol import Protocol
from server.metrics import Metrics
from server.settings import Settings
from tests.server.images.test_decode import chunk
from tests.server.images.test_files import again_and_again, photo, segment, with_segments
from tests.server.surface import make_app

MAX_HOLD_S = 0.05
BEAT_S = 0.001
NUM_TRIES = 3
"""The best of so many counts: a garbage collection of all that pytest keeps may fall into any one."""
LARGEST = Settings.model_fields["max_body_bytes"].default
LARGEST_JSON = TEXT_BYTES * Settings.model_fields["max_json_values"].default
SIDE_PX = 7000


class Pulse:
    """The most processor time that passed between two beats."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _beat(self) -> None:
        last_s = time.process_time()
        while True:
            await asyncio.sleep(BEAT_S)
            now_s = time.process_time()
            self.longest_s = max(self.longest_s, now_s - last_s)
            last_s = now_s


def to_call(path: str, body: bytes, kind: str, *headers: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body)}",
        f"Content-Type: {kind}",
        *headers,
    ]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def infer(body: bytes, *headers: str) -> bytes:
    return to_call("/v2/models/adatape_fake/infer", body, "application/json", *headers)


def filled(start: bytes, filling: bytes, end: bytes) -> bytes:
    """Return a document of the largest size that the server takes."""
    return start + filling * ((LARGEST - len(start) - len(end)) // len(filling)) + end


def picture(mode: str, kind: str = "PNG", side_px: int = SIDE_PX) -> bytes:
    """Return a small file that unfolds into almost as many pixels as the server takes."""
    buffer = io.BytesIO()
    Image.new(mode, (side_px, side_px)).save(buffer, kind)
    return buffer.getvalue()


def picture_of_noise() -> bytes:
    """Return a file of almost the largest size, all of it data."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2500, 2600, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def form(*parts: bytes) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    return b"".join(head + part + b"\r\n" for part in parts) + b"--b--\r\n"


def binary(document: bytes, data: bytes) -> bytes:
    head = document + b',"parameters":{"binary_data_size":%d}}]}' % len(data)
    return infer(head + data, f"Inference-Header-Content-Length: {len(head)}")


PNG_START = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\0\0\x08\0\0\0\x08\x08\x02\0\0\0")
EMPTY_CHUNK = chunk(b"IDAT", b"")
GIF_START = b"GIF89a\1\0\1\0\0\0\0"
IMAGE = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":%s'
STRINGS = b'{"inputs":[{"name":"encoded","datatype":"BYTES","shape":[256,1]'
FORM = "multipart/form-data; boundary=b"
ROWS = b"[" + b",".join([b"0"] * 100) + b"],"
CASES = {
    "lists": lambda: infer(filled(b'{"inputs":[', b"[],", b"[]]}")),
    "few lists, on the loop": lambda: infer(b'{"inputs":[' + b"[]," * 50_000 + b"[]]}"),
    "keys": lambda: infer(b"{" + b",".join(b'"%x":1' % number for number in range(1_000_000)) + b"}"),
    "pixels": lambda: infer(filled(b'{"inputs":[{"data":[', b"127,", b"1]}]}")),
    "as many pixels as may be": lambda: infer(
        IMAGE % b"[2500,8,8,3]" + b',"data":[' + b"127," * 479_999 + b"1]}]}"
    ),
    "rows": lambda: infer(IMAGE % b"[1,1]" + b',"data":[' + ROWS * 4000 + b"[]]}]}"),
    "depth": lambda: infer(b'{"inputs":' + b"[" * 60_000 + b"]" * 60_000 + b"}"),
    "as deep as may be": lambda: infer(b'{"inputs":[' + (b"[" * 60 + b"]" * 60 + b",") * 980 + b"[]]}"),
    "deep and flat": lambda: infer(b'{"inputs":[' + b"[1]," * 100 + b"1," * 490_000 + b"1]}"),
    "gzip bomb": lambda: infer(gzip.compress(b" " * (64 << 20)), "Content-Encoding: gzip"),
    "gzip of lists": lambda: infer(gzip.compress(filled(b"[", b"[],", b"1]")), "Content-Encoding: gzip"),
    "text": lambda: to_call("/v1/classify", filled(b'{"image":"', b"\\u0041", b'"}'), "application/json"),
    "base64": lambda: to_call(
        "/v1/classify", b'{"image":"' + base64.b64encode(bytes(LARGEST * 3 // 4 - 99)) + b'"}', "application/json"
    ),
    "as much text as may be": lambda: to_call(
        "/v1/classify", b'{"image":"' + b"\\u0041" * (LARGEST_JSON // 6 - 3) + b'"}', "application/json"
    ),
    "as much base64 as may be": lambda: to_call(
        "/v1/classify", b'{"image":"' + base64.b64encode(bytes(LARGEST_JSON * 3 // 4 - 99)) + b'"}', "application/json"
    ),
    "png": lambda: to_call("/v1/classify", picture("RGB"), "image/png"),
    "png with alpha": lambda: to_call("/v1/classify", picture("RGBA"), "image/png"),
    "png of 16 bits": lambda: to_call("/v1/classify", picture("I;16"), "image/png"),
    "webp": lambda: to_call("/v1/classify", picture("RGB", "WEBP"), "image/webp"),
    "as large a webp as may be": lambda: to_call("/v1/classify", picture("RGBA", "WEBP", 3547), "image/webp"),
    "bmp": lambda: to_call("/v1/classify", picture("1", "BMP"), "image/bmp"),
    "jpeg": lambda: to_call("/v1/classify", picture("RGB", "JPEG"), "image/jpeg"),
    "jpeg of four colours": lambda: to_call("/v1/classify", picture("CMYK", "JPEG"), "image/jpeg"),
    "jpeg of scans": lambda: to_call("/v1/classify", again_and_again(24, (SIDE_PX, SIDE_PX)), "image/jpeg"),
    "jpeg of segments": lambda: to_call(
        "/v1/classify", with_segments(photo(), segment(0xFE, b"") * 4_900_000), "image/jpeg"
    ),
    "jpeg without markers": lambda: to_call(
        "/v1/classify", filled(photo()[:-2], b"\xff\x00", b"\xff\xd9"), "image/jpeg"
    ),
    "jpeg of almost markers": lambda: to_call(
        "/v1/classify", filled(photo()[:-2], b"\xff", b"\xff\xd9"), "image/jpeg"
    ),
    "png of chunks": lambda: to_call("/v1/classify", filled(PNG_START, EMPTY_CHUNK, b""), "image/png"),
    "png of data": lambda: to_call("/v1/classify", picture_of_noise(), "image/png"),
    "gif of crumbs": lambda: to_call("/v1/classify", filled(GIF_START + b"!\xfe", b"\1x", b"\0;"), "image/gif"),
    "gif": lambda: to_call("/v1/classify", picture("P", "GIF"), "image/gif"),
    "bytes of no image": lambda: to_call("/v1/classify", bytes(LARGEST), "image/png"),
    "a large form": lambda: to_call("/v1/classify", form(bytes(LARGEST - 200)), FORM),
    "a form of boundaries": lambda: to_call("/v1/classify", form(b"\r\n--" * (LARGEST // 4 - 100)), FORM),
    "a form of parts": lambda: to_call("/v1/classify", form(*[b"x"] * 50_000), FORM),
    "a form without end": lambda: to_call("/v1/classify", filled(b"--b\r\n", b"a: b\r\n", b""), FORM),
    "query": lambda: to_call("/v1/classify?" + "&".join(f"{n}=1" for n in range(4000)), b"x", "image/png"),
    "path": lambda: to_call("/v2/models/" + "/".join("a" * 14_000), b"x", "image/png"),
    "tiny chunks": lambda: (
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 300_000
        + b"0\r\n\r\n"
    ),
    "headers": lambda: b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 200_000 + b"\r\n",
    "pipelined": lambda: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000,
    "quote": lambda: to_call("/v1/models/adatape_fake/quote", filled(b"[", b"[],", b"1]"), "application/json"),
    "repository": lambda: to_call("/v2/repository/index", filled(b"[", b"[],", b"1]"), "application/json"),
    "binary batch": lambda: binary(IMAGE % b"[256,8,8,3]", np.zeros(49152, np.uint8).tobytes()),
    "strings": lambda: binary(STRINGS, bytes(20_000_000)),
}  # fmt: skip


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, int]]:
    """Give the address of the whole application, over real connections."""
    app, settings, state = make_app(), Settings(backend="fake"), ServerState()
    await app.engine.start()
    config = uvicorn.Config(app, log_config=None)
    config.load()
    connection_limiter, loop = ConnectionLimiter(settings, Metrics()), asyncio.get_running_loop()
    make = lambda: Protocol(config, state, {}, connection_limiter=connection_limiter, arrivals=ArrivalEstimator())  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()
    await app.engine.drain(5)


async def exchange(address: tuple[str, int], call: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        with suppress(ConnectionError):
            writer.write(call)
            await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read(32)
    finally:
        writer.transport.abort()


async def longest_hold_s(call: bytes) -> tuple[float, bytes]:
    """Return the longest time between two beats while a call is answered, and how its answer begins."""
    async with serving() as address:
        await exchange(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with Pulse() as pulse:
            status = await exchange(address, call)
        return pulse.longest_s, status


@pytest.mark.parametrize("name", CASES)
def test_nothing_holds_up_the_event_loop(name: str):
    call = CASES[name]()
    holds_s = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(NUM_TRIES):
            hold_s, answer = runner.run(longest_hold_s(call))
            holds_s.append(hold_s)
            if hold_s <= MAX_HOLD_S:
                break
    assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer
    assert min(holds_s) <= MAX_HOLD_S, holds_s
