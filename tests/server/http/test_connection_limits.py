"""The sizes, counts and times of a connection are limited, each with a clear refusal. No test waits."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from server.errors import TooSlow, status_of
from server.http.arrivals import ArrivalEstimator
from server.http.connection_limits import MAX_PIPELINED, ConnectionLimiter, ConnectionStage
from server.http.protocol import Protocol
from server.metrics import Metrics
from server.settings import Settings
from tests.server.http.test_protocol import App, Caller

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
LATER_S = 1000.0


class World:
    """A server of one application, and as many callers as a test wants."""

    def __init__(self, **settings: Any) -> None:
        self.app, self.metrics, self.state = App(), Metrics(), ServerState()
        self.connection_limiter = ConnectionLimiter(Settings(**settings), self.metrics)
        self.stack = ExitStack()

    async def call(self) -> Caller:
        connection = self.stack.enter_context(socket.socket())
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self.address)
        return Caller(connection)

    def sweep(self, after_s: float = LATER_S) -> None:
        """Look at the connections as if so much later."""
        self.connection_limiter.sweep(self.state.connections, asyncio.get_running_loop().time() + after_s)

    async def until(self, stage: ConnectionStage) -> None:
        await self._until(lambda: [each.stage for each in self.state.connections] == [stage])

    async def until_open(self, count: int) -> None:
        gauge = self.metrics.registry.get_sample_value
        await self._until(lambda: gauge("adatape_open_connections") == count)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_so():  # noqa: ASYNC110 - the kernel and the loop decide when
                await asyncio.sleep(0)

    @property
    def ended(self) -> dict[str, float]:
        values = self.metrics.connections_ended.values
        return {reason: count for (reason,), count in values.items() if count}


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[World]:
    world = World(**settings)
    config = world.config = uvicorn.Config(world.app, log_config=None, ws="none")
    config.load()
    loop = asyncio.get_running_loop()
    parts = {"connection_limiter": world.connection_limiter, "arrivals": ArrivalEstimator()}
    make = lambda: Protocol(config, world.state, {}, **parts)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0)
    world.address = server.sockets[0].getsockname()
    with world.stack:
        yield world
    world.app.may_answer.set()
    server.close()
    for connection in list(world.state.connections):
        connection.transport.abort()
    await server.wait_closed()
    while world.state.tasks:
        await asyncio.gather(*world.state.tasks)


async def refusal(caller: Caller) -> tuple[int, str]:
    """Return the status and message of a reply that ends its connection."""
    async with asyncio.timeout(10):
        head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["error"]


# --- Size ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 2000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 5000,
    ],
    ids=["target", "one header", "many headers", "no end"],
)
async def test_a_head_beyond_its_limit_is_refused(head):
    async with serving(max_header_bytes=1000) as world:
        caller = await world.call()
        await caller.send(head)
        expected = "the request line and headers; got more than 1000 bytes; expected at most 1000 bytes"
        assert await refusal(caller) == (431, expected)
        assert world.ended == {"head_too_large": 1}


async def test_heads_are_counted_one_by_one():
    async with serving(max_header_bytes=300) as world:
        world.app.may_answer.set()
        caller = await world.call()
        for _ in range(5):
            await caller.send(HEAD, b"Cookie: ", b"a" * 200, b"\r\n\r\nbody")
            assert (await caller.read(len(b"HTTP/1.1 200 OK"))) == b"HTTP/1.1 200 OK"
            await caller.read(len(b"\r\ncontent-length: 4\r\n\r\nbody"))


async def test_more_requests_at_once_than_anyone_needs_are_refused():
    async with serving() as world:
        caller = await world.call()
        await caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * (MAX_PIPELINED + 2))
        status, message = await refusal(caller)
        assert (status, message.split(";")[0]) == (400, "pipelined requests")


# --- Number ----------------------------------------------------------------------------------


async def test_a_client_with_too_many_connections_is_told():
    async with serving(max_connections_per_client=2) as world:
        first, _ = await world.call(), await world.call()
        refused = await world.call()
        expected = "open connections of this client; got 3; expected at most 2 a client"
        assert await refusal(refused) == (503, expected)
        first.socket.close()
        await world.until_open(1)
        await world.call()
        await world.until_open(2)
        assert world.ended == {"too_many_connections": 1}


async def test_all_clients_together_are_bounded():
    async with serving(max_connections=1) as world:
        await world.call()
        assert await refusal(await world.call()) == (503, "open connections; got 2; expected at most 1")


# --- Time ------------------------------------------------------------------------------------


async def test_a_head_that_does_not_end_is_refused():
    async with serving(header_timeout_s=5) as world:
        caller = await world.call()
        await caller.send(HEAD)
        await world.until(ConnectionStage.HEAD)
        world.sweep(4)
        assert world.ended == {}
        world.sweep(6)
        expected = "the request's head; got no end of it after 5 s; expected all of it by then"
        assert await refusal(caller) == (408, expected)
        assert world.ended == {"slow_head": 1}


async def test_a_body_that_does_not_end_is_refused_and_its_request_let_go():
    async with serving(body_timeout_s=5) as world:
        caller = await world.call()
        await caller.send(HEAD, b"\r\nbo")
        await world.until(ConnectionStage.BODY)
        world.sweep(6)
        status, message = await refusal(caller)
        assert (status, message.split(";")[0]) == (408, "the request's body")
        async with asyncio.timeout(10):
            await world.app.left.wait()


async def test_the_servers_own_turn_is_not_timed():
    async with serving() as world:
        caller = await world.call()
        await caller.send(HEAD, b"\r\nbody")
        await world.until(ConnectionStage.ANSWER)
        world.sweep()
        world.app.may_answer.set()
        assert (await caller.read(15)) == b"HTTP/1.1 200 OK"


async def test_an_idle_connection_is_closed_without_a_word():
    async with serving(idle_timeout_s=70) as world:
        world.app.may_answer.set()
        caller, silent = await world.call(), await world.call()
        await caller.send(HEAD, b"\r\nbody")
        await caller.read(len(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody"))
        world.sweep(69)
        assert world.ended == {}
        world.sweep(71)
        async with asyncio.timeout(10):
            assert [await caller.rest(), await silent.rest()] == [b"", b""]
        assert world.ended == {"idle": 2}


class Stalled:
    """A connection whose caller does not read."""

    stage, since_s = ConnectionStage.REPLY, 0.0

    def __init__(self) -> None:
        self.errors: list[Any] = []

    def end(self, error: Any) -> None:
        self.errors.append(error)


def test_a_caller_that_does_not_take_its_answer_is_cut_off():
    connection_limiter, stalled = ConnectionLimiter(Settings(body_timeout_s=5), Metrics()), Stalled()
    connection_limiter.sweep([stalled], 4)
    assert stalled.errors == []
    connection_limiter.sweep([stalled], 6)
    assert stalled.errors == [None]


def test_slowness_has_a_status_of_its_own():
    assert status_of(TooSlow("x")) == 408
