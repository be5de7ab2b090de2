"""An HTTP/2 connection by hand, for a client that breaks rules which every library keeps."""

import asyncio
from collections.abc import Iterator

from loadtest.hostile.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    field,
    frame,
    head,
    message,
    raw_field,
    setting,
)

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "INITIAL_WINDOW_SIZE",
    "PING",
    "PREFACE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Raw",
    "field",
    "frame",
    "head",
    "message",
    "raw_field",
    "setting",
]
SERVICE = "/inference.GRPCInferenceService/"


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
