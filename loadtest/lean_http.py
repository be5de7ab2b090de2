"""An HTTP/1.1 client for measuring: it reads our replies correctly and nothing else, to cost less than the server.

A general client such as httpx takes more processor time for a request than the server does, which would be measured
as latency. Requests are rendered once, to bytes; a connection carries one at a time and is kept open.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

CONNECT_S = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    head: bytes
    body: bytes


CONNECTION_LOST = Reply(0, b"", b"")
"""The reply to a request whose connection broke."""


def render(path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """Return a request as the bytes that go on the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = bytearray()
        self._waiter: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of the right shape but of no asyncio class.
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> "asyncio.Future[Reply]":
        """Send a request; its reply resolves the future."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self.is_closed or self._transport is None:
            self._settle(CONNECTION_LOST)
            return self._waiter
        self._transport.write(request)
        return self._waiter

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        reply = parse_reply(self._received)
        if reply is not None:
            self._received.clear()
            if b"\r\nconnection: close" in reply.head.lower():
                self.close()
            self._settle(reply)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol names it
        self._settle(CONNECTION_LOST)
        self.is_lost.set()

    def _settle(self, reply: Reply) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)


def parse_reply(received: bytes | bytearray) -> Reply | None:
    """Return a reply once all of it has come; it must announce its length, as all of ours do."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end])
    length = int(find_header(head, "Content-Length") or 0)
    if len(received) < end + 4 + length:
        return None
    return Reply(int(head[9:12]), head, bytes(received[end + 4 : end + 4 + length]))


def find_header(head: bytes, name: str) -> str | None:
    """Return the value of a reply's header; names know no case."""
    key = f"\r\n{name.lower()}:".encode("ascii")
    start = head.lower().find(key)
    if start < 0:
        return None
    start += len(key)
    stop = head.find(b"\r\n", start)
    return (head[start:] if stop < 0 else head[start:stop]).decode("latin-1").strip()


class Client:
    """A pool of connections to one server that grows as needed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port or 80
        self._idle: deque[_Connection] = deque()
        self._all: list[_Connection] = []

    async def open(self, count: int) -> None:
        """Have at least so many connections ready, so that connecting costs no request anything."""
        while len(self._idle) < count:
            self._idle.append(await self._connect())

    async def send(self, request: bytes) -> Reply:
        """Return the reply to one request; `CONNECTION_LOST` if the connection broke."""
        connection = await self._take()
        if connection is None:
            return CONNECTION_LOST
        reply = await connection.send(request)
        if not connection.is_closed:
            self._idle.append(connection)
        return reply

    async def close(self) -> None:
        """Close all connections and wait until they are."""
        for connection in self._all:
            connection.close()
        await asyncio.gather(*(connection.is_lost.wait() for connection in self._all))

    async def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                return connection
        try:
            return await self._connect()
        except OSError:
            return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        self._all.append(connection)
        return connection
