"""HTTP/1.1 on raw sockets: clients that close one side, close both sides, or reset."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from server.http.arrivals import ArrivalEstimator
from server.http.connection_limits import ConnectionLimiter
from server.http.exchange import Message, Receive, Scope, Send
from server.http.protocol import Protocol
from server.metrics import Metrics
from server.settings import Settings

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
RESET = struct.pack("ii", 1, 0)
PATIENCE_S = 20


class App:
    """Answers a request when the test says so, unless the client disconnects first."""

    def __init__(self) -> None:
        self.bodies: asyncio.Queue[bytes] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message: Message = {"more_body": True}
        body = b""
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message["body"]
        self.bodies.put_nowait(body)
        answer = asyncio.ensure_future(self.may_answer.wait())
        departure = asyncio.ensure_future(receive())
        await asyncio.wait([answer, departure], return_when=asyncio.FIRST_COMPLETED)
        if departure.done():
            answer.cancel()
            self.left.set()
            return
        departure.cancel()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Caller:
    """One connection, byte by byte, on the loop of the server."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._loop = asyncio.get_running_loop()

    async def send(self, *parts: bytes) -> None:
        await self._loop.sock_sendall(self.socket, b"".join(parts))

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    async def read(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            data = await self._loop.sock_recv(self.socket, count - len(received))
            assert data, f"closed after {received!r}"
            received += data
        return received

    async def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        received = b""
        while data := await self._loop.sock_recv(self.socket, 65536):
            received += data
        return received


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[App, Caller]]:
    app = App()
    config, state = uvicorn.Config(app, log_config=None), ServerState()
    connection_limiter = ConnectionLimiter(Settings(**settings), Metrics())
    connection_limiter.watch(cast("set[Protocol]", state.connections))
    config.load()
    loop = asyncio.get_running_loop()
    parts = {"connection_limiter": connection_limiter, "arrivals": ArrivalEstimator()}
    server = await loop.create_server(lambda: Protocol(config, state, {}, **parts), "127.0.0.1", 0)
    connection = socket.socket()
    connection.setblocking(False)
    with connection:
        await loop.sock_connect(connection, server.sockets[0].getsockname())
        yield app, Caller(connection)
    await connection_limiter.stop()
    server.close()
    await server.wait_closed()
    while state.tasks:
        await asyncio.gather(*state.tasks)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[App, Caller], Awaitable[None]]], None]:
    """Run a scene between a caller and an application on either event loop."""

    def play(scene: Callable[[App, Caller], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(PATIENCE_S), connected() as (app, caller):
                await scene(app, caller)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return play


def test_a_half_closed_request_is_answered(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"abcd")
        caller.half_close()
        assert await caller.read(len(INTERIM)) == INTERIM
        app.may_answer.set()
        head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close" in head
        assert body == b"abcd"
        assert not app.left.is_set()

    run(scene)


def test_a_half_closed_request_may_take_long(run):
    """Looking for a reset again and again takes nothing from a caller that waits."""

    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"abcd")
        caller.half_close()
        await caller.read(len(INTERIM))
        asyncio.get_running_loop().call_later(0.05, app.may_answer.set)
        assert (await caller.rest()).endswith(b"abcd")

    run(scene)


def test_a_caller_that_closes_both_sides_has_left(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"abcd")
        assert await app.bodies.get() == b"abcd"
        caller.socket.close()
        await app.left.wait()

    run(scene)


def test_a_caller_that_closes_one_side_and_then_the_other_has_left(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"abcd")
        caller.half_close()
        await caller.read(len(INTERIM))
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        caller.socket.close()
        await app.left.wait()

    run(scene)


def test_a_caller_that_breaks_off_has_left(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"abcd")
        assert await app.bodies.get() == b"abcd"
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        caller.socket.close()
        await app.left.wait()

    run(scene)


def test_pipelined_requests_before_a_half_close_are_all_answered(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, b"1111", POST, b"2222", POST, b"3333")
        caller.half_close()
        assert await app.bodies.get() == b"1111"
        app.may_answer.set()
        answers = (await caller.rest()).replace(INTERIM, b"").split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert [answer[-4:] for answer in answers] == [b"1111", b"2222", b"3333"]
        assert [b"connection: close" in answer for answer in answers] == [False, False, True]

    run(scene)


def test_http_1_0_gets_no_interim_response(run):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST.replace(b"/1.1", b"/1.0"), b"abcd")
        caller.half_close()
        assert await app.bodies.get() == b"abcd"
        app.may_answer.set()
        received = await caller.rest()
        assert received.startswith(b"HTTP/1.1 200 OK")
        assert received.endswith(b"abcd")

    run(scene)


def test_a_tls_connection_ends_with_its_first_end():
    """There nothing could be sent any more: asyncio would warn, and close."""
    protocol = Protocol.__new__(Protocol)
    protocol.scheme = "https"
    protocol.cycle = SimpleNamespace(response_complete=False, more_body=False)
    assert protocol.eof_received() is False


@pytest.mark.parametrize("sent", [b"", b"ab"])
def test_a_body_that_ends_too_early_is_refused(run, sent: bytes):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(POST, sent)
        caller.half_close()
        head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n")
        assert body.startswith(b'{"error": "the request\'s body; got its end too early; expected ')
        await app.left.wait()

    run(scene)


@pytest.mark.parametrize("sent", [b"", POST[:10]])
def test_a_connection_that_ends_between_requests_is_closed(run, sent: bytes):
    async def scene(app: App, caller: Caller) -> None:
        await caller.send(sent)
        caller.half_close()
        assert await caller.rest() == b""

    run(scene)


def test_a_body_of_tiny_chunks_is_refused_once_they_come_by_the_thousand(run):
    chunks = b"1\r\nx\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def many(app: App, caller: Caller) -> None:
        with suppress(ConnectionError):  # what it has not read yet may cost it the answer
            await caller.send(head, chunks * 40_000)
            answer = await caller.rest()
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"chunks of the body at once; got 8193; expected at most 8192" in answer
        await app.left.wait()

    async def some(app: App, caller: Caller) -> None:
        app.may_answer.set()
        await caller.send(head, chunks * 5000, b"0\r\n\r\n")
        assert await app.bodies.get() == b"x" * 5000
        assert (await caller.read(12)).startswith(b"HTTP/1.1 200")

    run(many)
    run(some)
