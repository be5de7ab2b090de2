"""Callers that are many, send slowly, or disconnect."""

import asyncio
import json
import random
import time
from contextlib import suppress
from urllib.parse import urlsplit

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import ScenarioServers, load_on, to_request, until_answered
from loadtest.metrics import total
from loadtest.process import Server

NUM_IDLE = 10_000
MAX_IDLE_BYTES = 20_000
"""What an idle connection may cost the server."""
MAX_GROWTH_BYTES = 40_000_000
"""What a burst after the first may add for good: the allocator's own play."""
MAX_SLOWDOWN, SLACK_MS = 2.0, 20.0
"""How much slower the slowest percent may be once it is over, against before, on a machine that does other things."""
NUM_SLOW = 300
NUM_AT_ONCE = 1000
NUM_BURSTS = 3
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connect(server: Server, count: int) -> list[Stream]:
    parts = urlsplit(server.url)
    streams: list[Stream] = []
    while len(streams) < count:
        chunk = min(200, count - len(streams))
        streams += await asyncio.gather(*(asyncio.open_connection(parts.hostname, parts.port) for _ in range(chunk)))
    return streams


async def _answered(stream: Stream, call: bytes) -> int:
    reader, writer = stream
    writer.write(call)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))
    return int(head[9:12])


async def _close(streams: list[Stream]) -> None:
    for _, writer in streams:
        writer.transport.abort()
    await asyncio.sleep(0.5)


async def _p99_ms(server: Server) -> float:
    """Return the 99th percentile that a few callers see in a second."""
    async with load_on(server) as load:
        await asyncio.sleep(1.0)
    promise(load.num_failed == 0, dict(load.statuses), "no other request to fail")
    return load.p99_ms()


def _promise_recovered(before_ms: float, after_ms: float) -> None:
    limit_ms = MAX_SLOWDOWN * before_ms + SLACK_MS
    promise(
        after_ms <= limit_ms, f"p99 {before_ms:.1f} ms before, {after_ms:.1f} ms after", f"{limit_ms:.1f} ms at most"
    )


@scenario
async def ten_thousand_idle_connections(servers: ScenarioServers) -> str:
    """With 10,000 idle keep-alive connections others are answered, and all of them still can be."""
    with servers.fake() as server:
        await until_answered(server)
        calm_ms, before = await _p99_ms(server), server.footprint()
        streams = await _connect(server, NUM_IDLE)
        asked = random.Random(0).sample(streams, 500)
        statuses = [await _answered(stream, to_request()) for stream in asked]
        during, open_now = server.footprint(), total(server.metrics(), "adatape_open_connections")
        beside_ms = await _p99_ms(server)
        promise(set(statuses) == {200}, set(statuses), "every idle connection to be answered when it asks")
        each = (during.resident_bytes - before.resident_bytes) / NUM_IDLE
        promise(open_now >= NUM_IDLE, open_now, "all to be open")
        promise(each < MAX_IDLE_BYTES, f"{each:.0f} bytes each", f"less than {MAX_IDLE_BYTES}")
        await _close(streams)
        await until_answered(server)
        after = server.footprint()
        promise(after.num_descriptors < 200, after.num_descriptors, "their descriptors to be free again")
        after_ms = await _p99_ms(server)
        _promise_recovered(calm_ms, after_ms)
    return (
        f"memory {before.resident_bytes / 1e6:.0f} -> {during.resident_bytes / 1e6:.0f} MB ({each / 1000:.1f} kB a "
        f"connection), p99 of others {calm_ms:.1f} ms before, {beside_ms:.1f} beside them, {after_ms:.1f} after"
    )


@scenario
async def bursts_of_a_thousand_with_random_cancels(servers: ScenarioServers) -> str:
    """Of 1,000 calls at once half leave at random moments; the others are answered, and nothing is left over."""
    chance = random.Random(1)
    call = to_request()
    with servers.fake() as server:
        await until_answered(server)
        calm_ms = await _p99_ms(server)
        statuses: list[int] = []
        held: list[int] = []
        for _ in range(NUM_BURSTS):
            streams = await _connect(server, NUM_AT_ONCE)
            leaving, staying = streams[::2], streams[1::2]
            gone = [asyncio.create_task(_leave(stream, call, chance.uniform(0, 0.3))) for stream in leaving]
            statuses += await asyncio.gather(*(_answered(stream, call) for stream in staying))
            await asyncio.gather(*gone)
            await _close(streams)
            held.append(server.footprint().resident_bytes)
        started_s = time.monotonic()
        while total(counts := server.metrics(), "adatape_pending_samples") > 0:
            promise(time.monotonic() - started_s < 10, "samples that wait for nobody", "none")
            await asyncio.sleep(0.05)
        after_ms = await _p99_ms(server)
        promise(set(statuses) == {200}, {s: statuses.count(s) for s in statuses}, "200 for all that stay")
        admitted = total(counts, "adatape_requests_admitted_total")
        settled = sum(total(counts, "adatape_requests_total", outcome=each) for each in ("ok", "cancelled"))
        promise(admitted <= settled, f"{admitted} admitted, {settled} settled", "each to be settled")
        growth = held[-1] - held[0]
        promise(growth < MAX_GROWTH_BYTES, f"{growth / 1e6:.0f} MB more", f"less than {MAX_GROWTH_BYTES / 1e6:.0f}")
        _promise_recovered(calm_ms, after_ms)
    return (
        f"{len(statuses)} answered, {NUM_BURSTS * NUM_AT_ONCE // 2} left, memory {held[0] / 1e6:.0f} -> "
        f"{held[-1] / 1e6:.0f} MB from the first burst to the last, p99 {calm_ms:.1f} ms before, {after_ms:.1f} after"
    )


async def _leave(stream: Stream, call: bytes, after_s: float) -> None:
    stream[1].write(call)
    await asyncio.sleep(after_s)
    stream[1].transport.abort()


@scenario
async def callers_that_send_byte_by_byte(servers: ScenarioServers) -> str:
    """Heads and bodies that do not end are refused in time, and nobody else waits for them."""
    limits = ("--header-timeout-s", "1", "--body-timeout-s", "1")
    with servers.fake(*limits) as server:
        await until_answered(server)
        streams = await _connect(server, NUM_SLOW)
        async with load_on(server) as load:
            dribbling = [asyncio.create_task(_dribble(stream, number)) for number, stream in enumerate(streams)]
            answers = await asyncio.gather(*dribbling)
        refused = [text for text in answers if text.startswith(b"HTTP/1.1 408 ")]
        promise(len(refused) == NUM_SLOW, len(refused), f"408 for all {NUM_SLOW}")
        promise("error" in json.loads(refused[0].partition(b"\r\n\r\n")[2]), refused[0], "a message")
        promise(load.num_failed == 0, dict(load.statuses), "no other request to fail")
        await _close(streams)
    return f"{len(refused)} refused with 408, {load.statuses[200]} others answered, p99 {load.p99_ms():.1f} ms"


async def _dribble(stream: Stream, number: int) -> bytes:
    """Send one byte of a head, or of a body, every now and then; return what the server says in the end."""
    reader, writer = stream
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    writer.write(head + (b"\r\n" if number % 2 else b"X-Slow: "))
    reading = asyncio.create_task(reader.read(1 << 16))
    for _ in range(200):
        with suppress(ConnectionError):
            writer.write(b"a")
            await writer.drain()
        if (await asyncio.wait([reading], timeout=0.1))[0]:
            break
    with suppress(ConnectionError):
        return await reading
    return b""
