"""HTTP/2 by hand, for a client that breaks the manners which every library keeps."""

import asyncio
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
SERVICE = "/inference.GRPCInferenceService/"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


def field(name: str, value: str) -> bytes:
    """Return a header as HPACK has it, without its tables and its compression."""
    return raw_field(name.encode(), value.encode())


def raw_field(name: bytes, value: bytes) -> bytes:
    """Return a header of any bytes."""
    return b"\x00" + b"".join(_length(len(part)) + part for part in (name, value))


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    rest = bytearray()
    while number >= 128:
        rest.append(number % 128 + 128)
        number //= 128
    return bytes([127, *rest, number])


def head(method: str, *more: tuple[str, str]) -> bytes:
    usual = ((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"), ("te", "trailers"))
    return b"".join(field(*pair) for pair in (*usual, ("content-type", "application/grpc"), *more))


def message(data: bytes, length: int | None = None) -> bytes:
    """Return a message as gRPC frames it; `length` is what it says that it holds."""
    return b"\x00" + struct.pack(">I", len(data) if length is None else length) + data


class Raw:
    """One connection. What comes in is kept as frames; settings and pings are acknowledged unless it is rude."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.is_rude = False
        self.is_over = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, address: str, settings: bytes = b"") -> "Raw":
        """Connect and exchange settings."""
        raw = cls(*await asyncio.open_connection(*address.rsplit(":", 1)))
        raw.send(PREFACE + frame(SETTINGS, 0, 0, settings))
        await raw.until(SETTINGS, ACK)
        return raw

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def ask(self, method: str, stream: int, *more: tuple[str, str]) -> None:
        """Open an RPC."""
        self.send(frame(HEADERS, END_HEADERS, stream, head(SERVICE + method, *more)))

    def of(self, kind: int) -> Iterator[tuple[int, bytes]]:
        """Give the streams and payloads of a kind of frame."""
        return ((stream, payload) for each, _, stream, payload in self.frames if each == kind)

    async def until(self, kind: int, flags: int = 0) -> bytes:
        """Wait for a frame of a kind; return its payload."""
        async with asyncio.timeout(20):
            while True:
                for each, has, _, payload in self.frames:
                    if each == kind and has & flags == flags:
                        return payload
                assert not self.is_over.is_set(), self.frames
                await asyncio.sleep(0.01)

    async def until_over(self) -> None:
        async with asyncio.timeout(20):
            await self.is_over.wait()

    async def close(self) -> None:
        self._reading.cancel()
        self.writer.transport.abort()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while True:
                start = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(start[:3]))
                kind, flags, stream = start[3], start[4], int.from_bytes(start[5:])
                self.frames.append((kind, flags, stream, payload))
                if kind in {SETTINGS, PING} and not flags & ACK and not self.is_rude:
                    self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_over.set()
