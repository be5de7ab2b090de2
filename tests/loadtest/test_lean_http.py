"""The lean client: rendering, parsing in pieces, and both ways to load a server, on a loopback server of the test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from loadtest.lean_http import CONNECTION_LOST, Client, parse_reply, render
from loadtest.load import Closed, run_closed, run_open

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_a_request_is_rendered_whole() -> None:
    assert (
        render("/x", b"abc", {"A": "b"})
        == b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nA: b\r\n\r\nabc"
    )


def test_a_reply_is_parsed_only_once_all_of_it_is_there() -> None:
    assert [parse_reply(OK[:end]) for end in range(len(OK))] == [None] * len(OK)
    reply = parse_reply(OK)
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"hi")


def test_a_reply_without_a_body_is_whole() -> None:
    reply = parse_reply(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert reply is not None
    assert (reply.status, reply.body) == (204, b"")


@asynccontextmanager
async def answering(*, breaks: bool = False) -> AsyncIterator[tuple[str, list[int]]]:
    """Serve on loopback; count what is in flight."""
    flights = [0]
    most = [0]
    handlers: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            flights[0] += 1
            most[0] = max(most[0], flights[0])
            await asyncio.sleep(0)
            flights[0] -= 1
            if breaks:
                break
            writer.write(OK)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", most
        await asyncio.gather(*(handler for handler in handlers if handler is not None))


async def test_an_open_run_sends_every_request_whatever_becomes_of_it() -> None:
    async with answering() as (url, _):
        client = Client(url)
        outcomes = await run_open(client, lambda _: render("/", b""), np.linspace(0, 0.05, 40))
        await client.close()
    assert outcomes.is_ok.all()
    assert (outcomes.latency_s >= 0).all()
    assert outcomes.attainment(10.0) == 1.0
    assert outcomes.attainment(-1.0) == 0.0


async def test_a_broken_connection_is_an_outcome() -> None:
    async with answering(breaks=True) as (url, _):
        client = Client(url)
        assert await client.send(render("/", b"")) == CONNECTION_LOST
        await client.close()


async def test_a_closed_run_keeps_its_callers_and_no_more() -> None:
    async with answering() as (url, most):
        client = Client(url)
        closed = await run_closed(client, [render("/", b"")], concurrency=3, duration_s=0.1, warm_s=0.02)
        await client.close()
    assert closed.num_failed == 0
    assert closed.rate > 0
    assert most[0] <= 3


def test_a_closed_rate_runs_from_answer_to_answer() -> None:
    closed = Closed(warm_s=1.0, done_s=[0.5, 0.9, 1.9, 2.9], latencies_s=[0.1] * 4)
    assert closed.rate == pytest.approx(1.0)
    assert len(closed.warm_latencies_s) == 2
    assert Closed(warm_s=1.0).rate == 0.0
