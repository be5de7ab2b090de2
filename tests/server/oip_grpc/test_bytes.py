"""Bytes that no gRPC library sends: they are refused without a traceback, and the port stays open."""

import asyncio
import gzip
import logging

import pytest

from tests.server.oip_grpc import raw_http2
from tests.server.oip_grpc.calls import arrays, request, serving
from tests.server.oip_grpc.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    SERVICE,
    Raw,
    frame,
    message,
)
from tests.server.tenancy.tenants import ACME, access

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = [
    *(
        SERVICE + name
        for name in ("ModelInfer", "ModelStreamInfer", "ServerLive", "RepositoryModelLoad", "TraceSetting")
    ),
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    REFLECTION,
]
NAMES = [b"/\xff", b"/\xff/\x80", b"\xfe", b"", b"/", b"//", b"*", b"/x/y", b"/\xc3\xa9/x", SERVICE.encode() + b"Nope",
         SERVICE.encode() + b"ModelInfer\xff", SERVICE.encode() + b"\xed\xa0\x80", b"http://x/y"]  # fmt: skip
METADATA = [
    (b"x-a", b"\xff"), (b"user-agent", b"\xff"), (b"traceparent", b"\xff"), (b"traceparent", b"junk"), (b"\xff", b"a"),
    (b"cookie", b"\x80"), (b"x-a-bin", b"!"), (b"x-a", b""), (b"X-A", b"a"), (b"grpc-timeout", b"1n"), (b"te", b"x"),
    (b"grpc-timeout", b"junk"), (b"grpc-encoding", b"junk"), (b"grpc-encoding", b"\xff"),
    (b"content-type", b"text/plain"),
]  # fmt: skip
GARBAGE = {
    "no message": b"",
    "half a message": b"\0\0\0\0\x05ab",
    "half a length": b"\0\0",
    "an unknown flag": b"\x07\0\0\0\0",
    "no gzip": b"\x01\0\0\0\x03abc",
    "no protocol buffer": message(b"\xff\xff\xff"),
    "text that is none": message(b"\x0a\x02\xff\xff"),
    "two": message(b"") + message(b""),
}


def head(method: bytes, *more: tuple[bytes, bytes], drop: bytes = b"") -> bytes:
    """Return a head of any bytes."""
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method),
        (b":authority", b"x"),
        (b"te", b"trailers"),
    ]
    fields = [*usual, (b"content-type", b"application/grpc"), *more]
    return b"".join(raw_http2.raw_field(*field) for field in fields if field[0] != drop)


class World:
    """A server, and all that it logs above INFO."""

    def __init__(self, served, caplog: pytest.LogCaptureFixture) -> None:
        self.served, self._caplog = served, caplog

    async def ask(self, head: bytes, *data: bytes) -> bytes:
        """Make one call over a connection of its own; return the head that ends it, nothing if the connection ends."""
        raw = await Raw.connect(self.served.address)
        raw.send(frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, b"".join(data)))
        try:
            async with asyncio.timeout(10):
                while not raw.is_over.is_set():
                    for kind, flags, _, payload in raw.frames:
                        if (kind == HEADERS and flags & END_STREAM) or kind == RST_STREAM:
                            return payload
                    await asyncio.sleep(0)
            return b""
        finally:
            await raw.close()

    async def check(self) -> None:
        """Assert that an ordinary client is answered, and that no failure of ours was logged."""
        assert arrays(await self.served.stub.ModelInfer(request(max_tape=3)))["tape_length"] == 3
        lines = [
            record.getMessage() for record in self._caplog.records if record.levelno > logging.INFO or record.exc_info
        ]
        assert lines == []


@pytest.fixture
async def world(caplog):
    caplog.set_level(logging.INFO)
    async with serving() as served:
        yield World(served, caplog)


@pytest.mark.parametrize("name", NAMES)
async def test_a_method_of_any_name_is_refused_and_ends_nothing(world, name):
    for _ in range(2):
        assert b"grpc-status\x0212" in await world.ask(head(name), message(b""))
        await world.check()


@pytest.mark.parametrize("field", METADATA)
async def test_metadata_of_any_bytes_are_no_affair_of_the_log(world, field):
    calls = [asyncio.create_task(world.ask(head(name.encode(), field), message(b""))) for name in METHODS[:3]]
    await asyncio.gather(*(world.ask(head(name.encode(), (b"x-a", b"\xfe")), message(b"")) for name in METHODS[:3]))
    await world.check()
    for call in calls:
        call.cancel()  # the library gives some no answer at all
    await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_messages_of_any_bytes_are_refused(world, garbage):
    for method in METHODS:
        if not method.endswith("Watch"):
            await world.ask(head(method.encode()), GARBAGE[garbage])
            await world.ask(head(method.encode(), (b"grpc-encoding", b"gzip")), GARBAGE[garbage])
    await world.check()


async def test_a_sound_message_may_be_compressed(world):
    packed = gzip.compress(request(max_tape=3).SerializeToString())
    sent = b"\x01" + len(packed).to_bytes(4, "big") + packed
    ended = await world.ask(head(SERVICE.encode() + b"ModelInfer", (b"grpc-encoding", b"gzip")), sent)
    assert b"grpc-status\x010" in ended
    await world.check()


@pytest.mark.parametrize("missing", [b"te", b":authority", b":path", b":scheme"])
async def test_what_no_grpc_client_leaves_out_is_no_call(world, missing):
    """A page cannot set `te`, so no browser that speaks HTTP/2 over TLS gets through to a method."""
    ended = await world.ask(head(SERVICE.encode() + b"ServerLive", drop=missing), message(b""))
    assert b"grpc-status\x010" not in ended
    await world.check()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_turns", [0, 1, 5])
async def test_a_call_may_be_broken_off_at_any_time(world, method, num_turns):
    for end in (
        lambda raw, stream: raw.send(frame(RST_STREAM, 0, stream, b"\0\0\0\x08")),
        lambda raw, _: raw.writer.close(),
    ):
        raw = await Raw.connect(world.served.address)
        for stream in (1, 3, 5):
            body = request().SerializeToString() if "Infer" in method else b""
            raw.send(frame(HEADERS, END_HEADERS, stream, head(method.encode())) + frame(DATA, 0, stream, message(body)))
        for _ in range(num_turns):
            await asyncio.sleep(0)
        for stream in (1, 3, 5):
            end(raw, stream)
        await world.check()
        await raw.close()


async def test_no_key_is_logged_however_it_is_spelt(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with serving(**access(tmp_path)) as served:
        world = World(served, caplog)
        for shown in ((b"x-api-key", ACME.encode() + b"\xff"), (b"authorization", f"Bearer {ACME}".encode() + b"\xe9")):
            assert b"grpc-status\x0216" in await world.ask(
                head(SERVICE.encode() + b"ServerMetadata", shown), message(b"")
            )
    assert ACME not in caplog.text
    assert "Traceback" not in caplog.text
