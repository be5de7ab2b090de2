"""A request waits for decoding no longer than its deadline, and never for another one's large image."""

import asyncio
import io
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from server.backends.fake import FAMILY
from server.dataplane import InputTensor, OipRequest
from server.errors import Cancelled, DeadlineExceeded, Draining, PayloadTooLarge
from server.images import DecodePool, decode
from server.images.limits import MAX_READS, DecodeLimit, LimitedFile
from server.models.manifest import Preprocessing
from server.settings import Settings
from tests.server.surface import Wire, make_app, photo, scope, serving

TARGET = Preprocessing(height=8, width=8, resize="squash")
GRACE_S = 0.05
NUM_TRIES = 3
"""The best of so many counts: other programs may take the processor in any one."""


def large() -> bytes:
    """A small file that says it has five million pixels."""
    buffer = io.BytesIO()
    Image.new("L", (2500, 2000)).save(buffer, "PNG")
    return buffer.getvalue()


class Stuck:
    """Replaces `decode`: decodes a large image without an end, until its request has ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        monkeypatch.setattr("server.images.decode_pool.decode", self._decode)

    def _decode(self, data, target, *, limit, **options):
        if len(data) < 1000:
            return decode(data, target, limit=limit, **options)
        self.began.set()
        try:
            while True:
                limit.check()
                time.sleep(0.001)
        finally:
            self.ended.set()


async def soon(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def over(stuck: Stuck) -> None:
    """Wait until no image is being decoded; on a busy machine none may have been."""
    if stuck.began.is_set():
        await soon(stuck.ended)


async def test_a_deadline_ends_the_waiting_at_once_and_the_decoding_soon(monkeypatch):
    stuck, pool = Stuck(monkeypatch), DecodePool(Settings())
    late_s = []
    for _ in range(NUM_TRIES):
        deadline_s = time.monotonic() + 0.1
        with pytest.raises(DeadlineExceeded, match="deadline; got images still to be decoded; expected"):
            await pool.decode([large], TARGET, deadline_s)
        late_s.append(time.monotonic() - deadline_s)
    assert min(late_s) <= GRACE_S
    assert all(late > -0.01 for late in late_s)
    await over(stuck)
    pool.close()


async def test_a_deadline_that_has_passed_decodes_nothing(monkeypatch):
    stuck, pool = Stuck(monkeypatch), DecodePool(Settings())
    with pytest.raises(DeadlineExceeded):
        await pool.decode([large], TARGET, deadline_s=time.monotonic() - 1)
    await over(stuck)
    pool.close()


async def test_small_images_never_wait_for_large_ones(monkeypatch):
    stuck, pool = Stuck(monkeypatch), DecodePool(Settings(intra_op_threads=1))
    hogs = [asyncio.create_task(pool.decode([large], TARGET)) for _ in range(8)]
    await soon(stuck.began)
    async with asyncio.timeout(10):
        (picture,) = await pool.decode([photo], TARGET)
    assert picture.pixels_HW3.shape == (8, 8, 3)
    for hog in hogs:
        hog.cancel()
    assert all(isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*hogs, return_exceptions=True))
    await soon(stuck.ended)
    pool.close()


async def test_one_bad_image_ends_the_decoding_of_the_others(monkeypatch):
    stuck, pool = Stuck(monkeypatch), DecodePool(Settings())
    with pytest.raises(Exception, match="the image is empty"):
        await pool.decode([large, lambda: (stuck.began.wait(10), b"")[1]], TARGET)
    await soon(stuck.ended)
    pool.close()


async def test_a_closed_pool_refuses_work_as_a_server_that_drains():
    pool = DecodePool(Settings())
    assert await pool.run(lambda: 3) == 3
    pool.close()
    with pytest.raises(Draining):
        await pool.run(lambda: 3)
    with pytest.raises(Draining):
        await pool.decode([photo], TARGET)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/classify", {"X-Deadline-Ms": "100"}),
        (f"/v2/models/{FAMILY}/infer", {"X-Deadline-Ms": "100", "Inference-Header-Content-Length": "0"}),
    ],
)
async def test_a_deadline_counts_while_an_image_is_decoded(monkeypatch, path, headers):
    stuck = Stuck(monkeypatch)
    async with serving() as client:
        body = large()
        if path.startswith("/v2"):
            head = (
                b'{"inputs":[{"name":"encoded","datatype":"BYTES","shape":[1,1],'
                b'"parameters":{"binary_data_size":%d}}]}' % (len(body) + 4)
            )
            headers = {**headers, "Inference-Header-Content-Length": str(len(head))}
            body = head + len(body).to_bytes(4, "little") + body
        response = await client.post(path, content=body, headers=headers)
    assert response.status_code == 504, response.text
    await over(stuck)


async def test_the_deadline_of_an_rpc_counts_while_an_image_is_decoded(monkeypatch):
    stuck, app = Stuck(monkeypatch), make_app()
    await app.engine.start()
    data = large()
    raw = len(data).to_bytes(4, "little") + data
    call = OipRequest(
        FAMILY, None, [InputTensor("encoded", "BYTES", [1, 1], raw)], "1", time.monotonic(), "grpc", time_left_s=0.1
    )
    with pytest.raises(DeadlineExceeded):
        await app.plane.prepare(call)
    await over(stuck)
    await app.engine.drain(1)


@pytest.mark.parametrize("path", ["/v1/classify", f"/v2/models/{FAMILY}/infer"])
async def test_a_client_that_leaves_takes_its_decoding_back(monkeypatch, path):
    stuck, app = Stuck(monkeypatch), make_app()
    await app.engine.start()
    body = large()
    head = b'{"inputs":[{"name":"encoded","datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":%d}}]}' % (
        len(body) + 4
    )
    headers = {}
    if path.startswith("/v2"):
        headers = {"inference-header-content-length": str(len(head))}
        body = head + len(body).to_bytes(4, "little") + body

    class Leaving(Wire):
        async def receive(self):
            if self.incoming:
                return self.incoming.pop(0)
            await soon(stuck.began)
            return {"type": "http.disconnect"}

    wire = Leaving({"type": "http.request", "body": body, "more_body": False})
    async with asyncio.timeout(10):
        await app(scope(path=path, headers=headers), wire.receive, wire.send)
    assert wire.sent[0]["status"] == 499
    await soon(stuck.ended)
    await app.engine.drain(1)


# --- The limit -----------------------------------------------------------------------------


def test_decoding_that_costs_too_much_is_ended():
    with pytest.raises(PayloadTooLarge, match="decoding the image takes too long; got more than 1e-09 s"):
        decode(large(), TARGET, max_pixels=10_000_000, limit=DecodeLimit(1e-9))


def test_decoding_is_ended_once_its_request_has_ended():
    abandoned = threading.Event()
    abandoned.set()
    with pytest.raises(Cancelled):
        decode(large(), TARGET, max_pixels=10_000_000, limit=DecodeLimit(abandoned=abandoned))


def test_a_feed_stops_where_it_is_told_and_gives_all():
    file = LimitedFile(bytes(range(10)), DecodeLimit(), stops=(3, 7))
    assert [file.read(100) for _ in range(4)] == [bytes(range(3)), bytes(range(3, 7)), bytes(range(7, 10)), b""]
    file.seek(0)
    assert [file.read(2), file.read(2), file.read()] == [bytes([0, 1]), bytes([2]), bytes(range(3, 10))]


def test_a_feed_is_not_read_in_crumbs():
    file = LimitedFile(bytes(MAX_READS + 1), DecodeLimit())
    for _ in range(MAX_READS):
        file.read(1)
    with pytest.raises(PayloadTooLarge, match="pieces of the image file; got more than"):
        file.read(1)


def test_a_decode_that_is_abandoned_between_two_scans_ends_there():
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(buffer, "JPEG", progressive=True)
    abandoned, looks = threading.Event(), []

    class Watched(DecodeLimit):
        def check(self):
            looks.append(1)
            if len(looks) == seen + 4:
                abandoned.set()
            super().check()

    seen = 10**9
    with suppress(Cancelled):
        decode(buffer.getvalue(), TARGET, max_pixels=10_000, limit=Watched())
    whole, seen = len(looks), len(looks) // 2
    looks.clear()
    with pytest.raises(Cancelled):
        decode(buffer.getvalue(), TARGET, max_pixels=10_000, limit=Watched(abandoned=abandoned))
    assert len(looks) < whole
