"""The memory that large bodies hold together is limited; small bodies always pass."""

import asyncio
from math import inf

import pytest

from server.errors import Overloaded
from server.http.body_memory import UNCOUNTED_BYTES, BodyMemory
from server.http.exchange import HttpRequest
from tests.server.surface import error, photo, result, scope, serving

KIB = 1024


def test_only_what_is_beyond_the_beginning_counts():
    memory = BodyMemory(inf, 100)
    assert memory.grow(0, UNCOUNTED_BYTES) == 0
    assert memory.grow(0, UNCOUNTED_BYTES + 70) == 70
    assert memory.grow(70, UNCOUNTED_BYTES + 100) == 100
    assert memory.held_bytes == 100


def test_a_body_that_finds_no_room_holds_what_it_held():
    memory = BodyMemory(inf, 100)
    held_bytes = memory.grow(0, UNCOUNTED_BYTES + 60)
    with pytest.raises(Overloaded, match=r"got 101; expected at most 100, or a body of up to 65536") as refused:
        memory.grow(held_bytes, UNCOUNTED_BYTES + 101)
    assert refused.value.retry_after_s
    assert memory.held_bytes == 60
    memory.release(held_bytes)
    assert memory.held_bytes == 0


class Slow:
    """A client that sends a chunk whenever the test says so."""

    def __init__(self, memory):
        self.chunks = asyncio.Queue()
        self.request = HttpRequest(scope(), self._receive, request_id="1", arrival_s=0, body_memory=memory)

    async def _receive(self):
        return {"type": "http.request", "body": await self.chunks.get(), "more_body": True}


async def test_slow_bodies_hold_what_they_have_sent_until_they_are_released():
    memory = BodyMemory(inf, 150 * KIB)
    first, second = Slow(memory), Slow(memory)
    reads = [asyncio.create_task(slow.request.body()) for slow in (first, second)]
    for slow in (first, second):
        slow.chunks.put_nowait(b"x" * 128 * KIB)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert memory.held_bytes == 128 * KIB
    second.chunks.put_nowait(b"x" * 64 * KIB)
    with pytest.raises(Overloaded):
        await reads[1]
    second.request.release()
    assert memory.held_bytes == 64 * KIB
    reads[0].cancel()
    first.request.release()
    first.request.release()
    assert memory.held_bytes == 0


async def test_a_full_server_refuses_large_bodies_and_takes_small_ones():
    large = photo(size=(400, 400), kind="BMP")
    async with serving(max_bodies_bytes=100 * KIB) as client:
        assert "bytes of large bodies at once; got" in await error(client, 503, content=large)
        assert (await result(client, content=photo()))["predictions"]


async def test_answered_bodies_make_room():
    large = photo(size=(400, 400), kind="BMP")
    async with serving(max_bodies_bytes=len(large)) as client:
        for _ in range(3):
            assert (await result(client, content=large))["predictions"]
        await error(client, 400, content=b"x" * len(large), headers={"Content-Type": "application/json"})
        assert (await result(client, content=large))["predictions"]
        metrics = (await client.get("/metrics")).text
    assert "adatape_bodies_bytes 0.0" in metrics
    assert f"adatape_bodies_limit_bytes {float(len(large))}" in metrics
