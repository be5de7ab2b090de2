"""Messages over gRPC: many items, deep nesting, compressed bombs, tiny frames, many messages."""

import gzip
import zlib
from collections.abc import Callable

from loadtest.hostile.http2 import (
    ACK,
    END_HEADERS,
    FRAME_BYTES,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Exchange,
    frame,
    head,
    message,
    opening,
)
from loadtest.hostile.table import MessageContext, add

SERVICE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
MIB = 1 << 20
LARGEST = 6 * MIB - 64
"""About the largest message that is taken."""
NUM_FIELDS = 4000
"""About as many as are taken."""


def number(value: int) -> bytes:
    """Return a number as protocol buffers have it."""
    rest = bytearray()
    while value > 127:
        rest.append(value % 128 + 128)
        value //= 128
    return bytes([*rest, value])


def part(place: int, data: bytes) -> bytes:
    """Return a field of bytes, text or a message."""
    return number(place << 3 | 2) + number(len(data)) + data


def rpc(
    body: bytes, rpc: str = SERVICE + "ModelInfer", *, step: int = FRAME_BYTES, flag: int = 0
) -> Callable[[MessageContext], Exchange]:
    """Return what sends one message; `step` is the size of its frames, `flag` says how it is compressed."""

    def make(context: MessageContext) -> Exchange:
        coding = [("grpc-encoding", ("identity", "gzip", "deflate")[flag])]
        return Exchange(opening(rpc, 1, *known(context), *coding), message(body, flag=min(flag, 1)), step)

    return make


def infer(*fields: bytes, step: int = FRAME_BYTES, flag: int = 0) -> Callable[[MessageContext], Exchange]:
    """Return what sends an inference of the family with these fields beside its name."""
    return lambda context: rpc(part(1, context.family.encode()) + b"".join(fields), step=step, flag=flag)(context)


def known(context: MessageContext) -> list[tuple[str, str]]:
    """Return the metadata that shows a key."""
    return [("x-api-key", context.key)] if context.key else []


def tensor(contents: bytes = b"", name: bytes = b"image", shape: bytes = b"\x01") -> bytes:
    """Return the field of an input with these typed contents."""
    return part(5, part(1, name) + part(2, b"UINT8") + part(3, shape) + part(5, contents))


def many(size: int, *fields: bytes) -> bytes:
    """Return as many of these fields as fill a size."""
    unit = b"".join(fields)
    return unit * (size // len(unit))


def distinct(count: int, place: int = 4) -> bytes:
    """Return so many parameters of different names."""
    return b"".join(part(place, part(1, b"%d" % index) + part(2, b"\x08\x01")) for index in range(count))


def batch(context: MessageContext) -> Exchange:
    """Return the largest honest batch, with typed contents."""
    shape = number(64) + number(32) + number(32) + number(3)
    return infer(tensor(part(4, b"\x01" * (64 * 32 * 32 * 3)), shape=shape))(context)


def stream_of(body: bytes, count: int) -> Callable[[MessageContext], Exchange]:
    """Return a stream of the same message so many times."""
    return lambda context: Exchange(opening(SERVICE + "ModelStreamInfer", 1, *known(context)), message(body) * count)


def at_once(rpc: str, body: bytes, count: int) -> Callable[[MessageContext], Exchange]:
    """Return so many RPCs in one write."""

    def make(context: MessageContext) -> Exchange:
        streams = range(1, 2 * count, 2)
        data = message(body)
        opened = [opening(rpc, each, *known(context)) + frame(0, ACK, each, data) for each in streams]
        return Exchange(b"".join(opened), num_answers=count)

    return make


def resets(context: MessageContext) -> Exchange:
    """Return many RPCs that are opened and reset."""
    opened = [opening(SERVICE + "ModelInfer", each, *known(context)) + frame(RST_STREAM, 0, each, bytes(4))
              for each in range(1, 4001, 2)]  # fmt: skip
    return Exchange(b"".join(opened) + opening(SERVICE + "ServerLive", 4001), message(b""))


def crowded_head(*fields: tuple[str, str]) -> Callable[[MessageContext], Exchange]:
    """Return an RPC with these entries of metadata."""
    return lambda context: Exchange(opening(SERVICE + "ModelInfer", 1, *known(context), *fields), message(b""))


def control(data: bytes) -> Callable[[MessageContext], Exchange]:
    """Return frames that carry no RPC, and one RPC after them."""
    return lambda _: Exchange(data + opening(SERVICE + "ServerLive", 1), message(b""))


EMPTY = b"\x2a\x00"
add(
    "gRPC ModelInfer",
    **{
        "100,000 empty inputs": infer(EMPTY * 100_000),
        "1,000,000 empty inputs": infer(EMPTY * 1_000_000),
        "empty inputs, the largest message": infer(many(LARGEST, EMPTY)),
        "empty inputs, 10 MB": infer(EMPTY * 5_000_000),
        "empty inputs, 20 MB": infer(EMPTY * 10_000_000),
        "as many inputs as may be": infer(EMPTY * 450),
        "as many full inputs as may be": infer(tensor() * 200),
        "empty outputs": infer(many(LARGEST, b"\x32\x00")),
        "as many outputs as may be": infer(part(6, part(1, b"logits")) * 450),
        "empty raw contents": infer(many(LARGEST, b"\x3a\x00")),
        "as many raw contents as may be": infer(b"\x3a\x00" * NUM_FIELDS),
        "parameters": infer(distinct(200_000)),
        "as many parameters as may be": infer(distinct(250)),
        "the same parameter": infer(many(LARGEST, distinct(1))),
        "parameters of an input": infer(part(5, part(1, b"image") + distinct(200_000))),
        "parameters of an output": infer(part(6, part(1, b"logits") + distinct(200_000))),
        "a parameter of 6 MB": infer(part(4, part(1, b"a" * LARGEST))),
        "unknown fields": infer(many(LARGEST, b"\xf8\x06\x00")),
        "unknown groups in one another": infer(b"\x7b" * (MIB) + b"\x7c" * (MIB)),
        "messages in one another": infer(many(LARGEST, EMPTY)[: LARGEST // 2] + b"\x7b"),
        "dimensions": infer(tensor(shape=b"\x01" * (LARGEST - 99))),
        "as many dimensions as may be": infer(tensor(shape=b"\x01" * 499_000)),
        "dimensions one by one": infer(part(5, many(LARGEST - 99, b"\x18\x01"))),
        "numbers": infer(tensor(part(4, b"\x01" * (LARGEST - 99)))),
        "as many numbers as may be": infer(tensor(part(4, b"\x01" * 499_000))),
        "negative numbers": infer(tensor(part(2, b"\xff" * 9 + b"\x01") * 40_000)),
        "numbers one by one": infer(tensor(many(LARGEST - 99, b"\x20\x01"))),
        "floats": infer(tensor(part(6, bytes(LARGEST - 99)))),
        "contents again and again": infer(part(5, many(LARGEST - 99, part(5, b"\x20\x01")))),
        "strings": infer(tensor(many(LARGEST - 99, b"\x42\x00"))),
        "one long string": infer(tensor(part(8, b"a" * (LARGEST - 99)))),
        "a name of 6 MB": rpc(part(1, b"a" * LARGEST)),
        "a name of 6 MB of other letters": rpc(part(1, "€".encode() * (LARGEST // 3))),
        "the name of an input": infer(tensor(name=b"a" * (LARGEST - 99)) * 1, EMPTY),
        "a datatype": infer(part(5, part(1, b"image") + part(2, b"U" * (LARGEST - 99)))),
        "names again and again": rpc(many(LARGEST, part(1, b"a"))),
        "raw contents, the largest message": infer(tensor(), part(7, bytes(LARGEST - 99))),
        "an honest batch": batch,
        "no message at all": rpc(b"\xff" * LARGEST),
        "gzip bomb": rpc(gzip.compress(bytes(256 * MIB), 9), flag=1),
        "gzip bomb within the limit": rpc(gzip.compress(EMPTY * (2 * MIB - 8)), flag=1),
        "deflate bomb": rpc(zlib.compress(bytes(256 * MIB), 9), flag=2),
        "frames of 24 bytes": infer(part(7, bytes(LARGEST - 99)), step=24),
        "frames of one byte": infer(part(7, bytes(MIB)), step=1),
    },
)
add(
    "gRPC ModelStreamInfer",
    **{
        "2,000 small messages": stream_of(EMPTY * 400, 2000),
        "20,000 empty messages": stream_of(b"", 20_000),
        "two messages of empty inputs": stream_of(many(LARGEST, EMPTY), 2),
        "gzip bombs": stream_of(gzip.compress(bytes(16 * MIB)), 8),
    },
)
_UNARY = {
    "ModelMetadata": part(1, b"a" * LARGEST),
    "ModelConfig": part(1, b"a" * LARGEST),
    "ModelStatistics": part(1, "€".encode() * (LARGEST // 3)),
    "ModelReady": many(LARGEST, b"\xf8\x06\x00"),
    "ServerMetadata": many(LARGEST, b"\xf8\x06\x00"),
    "ServerLive": many(LARGEST, b"\xf8\x06\x00"),
    "RepositoryIndex": part(1, b"a" * LARGEST),
    "RepositoryModelLoad": part(2, b"nobody") + distinct(200_000, 3),
    "RepositoryModelUnload": part(2, b"nobody") + distinct(200_000, 3),
    "TraceSetting": distinct(200_000, 1),
    "LogSettings": distinct(200_000, 1),
}
add("gRPC, other methods", **{name: rpc(body, SERVICE + name) for name, body in _UNARY.items()})
add(
    "gRPC, open to everyone",
    **{
        "health of a service of 4 MB": rpc(part(1, b"a" * LARGEST), HEALTH + "Check"),
        "health, unknown fields": rpc(many(LARGEST, b"\xf8\x06\x00"), HEALTH + "Check"),
        "ServerReady in frames of 24 bytes": rpc(bytes(LARGEST), SERVICE + "ServerReady", step=24),
        "a symbol of 4 MB": rpc(part(4, b"a" * LARGEST), REFLECTION),
        "symbols": rpc(many(LARGEST, part(4, b"a")), REFLECTION),
        "no such method": rpc(bytes(LARGEST), SERVICE + "Nothing"),
    },
)
add(
    "gRPC, frames and heads",
    **{
        "700 headers": crowded_head(*[(f"x-{index}", "") for index in range(700)]),
        "30 kB in one header": crowded_head(("x-a", "a" * 30_000)),
        "as many headers as may be": crowded_head(*[("x", "")] * 1000),
        "30,000 headers": crowded_head(*[("x", "")] * 30_000),
        "200,000 headers": crowded_head(*[("x", "")] * 200_000),
        "2,000,000 headers": crowded_head(*[("x", "")] * 2_000_000),
        "a key of 30 kB": crowded_head(("authorization", "Bearer " + "a" * 30_000)),
        "1,000 RPCs in one write": at_once(SERVICE + "ServerLive", b"", 1000),
        "1,000 RPCs of unknown models in one write": at_once(SERVICE + "ModelInfer", part(1, b"nobody"), 1000),
        "2,000 RPCs opened and reset": resets,
        "20,000 pings": control(frame(PING, 0, 0, bytes(8)) * 20_000),
        "20,000 settings": control(frame(SETTINGS, 0, 0) * 20_000),
        "a head that is none": control(frame(HEADERS, END_HEADERS, 1, head("/") + b"\xff" * 999)),
    },
)
