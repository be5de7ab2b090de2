"""Heads that two servers could read in two ways are refused, and so are bodies around them; on raw sockets."""

import asyncio

import pytest

from server.errors import ServeError
from server.http.request_head import check_head
from tests.server.http.test_connection_limits import refusal, serving
from tests.server.http.test_protocol import INTERIM, Caller
from tests.server.surface import serving as serving_app

LINE, HOST, END = b"POST / HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"
CHUNKED, CODING = b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: "
CHUNKS = b"\r\n5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"Content-Length: 5\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def answers(caller: Caller) -> bytes:
    async with asyncio.timeout(10):
        return await caller.rest()


async def answer(*parts: bytes, **settings: int) -> bytes:
    """Send bytes and close our side; return all that comes back, of an application that gives bodies back."""
    async with serving(**settings) as world:
        world.app.may_answer.set()
        caller = await world.call()
        await caller.send(*parts)
        caller.half_close()
        return (await answers(caller)).replace(INTERIM, b"")


# --- Heads -----------------------------------------------------------------------------------

REFUSED = {
    "no host": (LINE + LENGTH + b"\r\nhello", 400, "Host; got none"),
    "two hosts": (GET + b"Host: y\r\n\r\n", 400, "Host; got 2 of them"),
    "the same host twice": (GET + HOST + END, 400, "Host; got 2 of them"),
    "two hosts over 1.0": (b"GET / HTTP/1.0\r\n" + HOST + HOST + END, 400, "Host; got 2 of them"),
    "an empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "Host; got an empty one"),
    "a user before the host": (b"GET / HTTP/1.1\r\nHost: a@x\r\n\r\n", 400, "Host; got a@x"),
    "a path behind the host": (b"GET / HTTP/1.1\r\nHost: x/a\r\n\r\n", 400, "Host; got x/a"),
    "a list of hosts": (b"GET / HTTP/1.1\r\nHost: x, y\r\n\r\n", 400, "Host; got x, y"),
    "a user in the target": (b"GET http://a:b@x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "Host; got a:b@x"),
    "another scheme": (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request target; got ftp://x/"),
    "connect": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request target; got x:80"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400, "HTTP version; got 2.0"),
    "identity, then chunked": (
        LINE + HOST + CODING + b"identity\r\n" + CHUNKED + CHUNKS,
        400,
        "Transfer-Encoding; got",
    ),
    "identity, chunked": (LINE + HOST + CODING + b"identity, chunked\r\n" + CHUNKS, 400, "Transfer-Encoding; got"),
    "gzip, chunked": (LINE + HOST + CODING + b"gzip, chunked\r\n" + CHUNKS, 400, "Transfer-Encoding; got gzip"),
    "xchunked": (LINE + HOST + CODING + b"xchunked\r\n" + CHUNKS, 400, "Transfer-Encoding; got xchunked"),
    "chunked twice": (LINE + HOST + CHUNKED + CHUNKED + CHUNKS, 400, ""),
    "no coding": (LINE + HOST + CODING + END + CHUNKS, 400, ""),
    "chunked over 1.0": (b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + CHUNKS, 400, "Transfer-Encoding; got one over"),
    "chunked and a length": (LINE + HOST + CHUNKED + LENGTH + CHUNKS, 400, ""),
    "a length and chunked": (LINE + HOST + LENGTH + CHUNKED + CHUNKS, 400, ""),
    "two lengths": (LINE + HOST + LENGTH + b"Content-Length: 6\r\n\r\nhello", 400, ""),
    "the same length twice": (LINE + HOST + LENGTH + LENGTH + b"\r\nhello", 400, ""),
    "a list of lengths": (LINE + HOST + b"Content-Length: 5, 5\r\n\r\nhello", 400, ""),
    "a length with a sign": (LINE + HOST + b"Content-Length: +5\r\n\r\nhello", 400, ""),
    "a line that goes on": (GET + b"X: a\r\n b\r\n\r\n", 400, ""),
    "a space before the colon": (LINE + HOST + b"Content-Length : 5\r\n\r\nhello", 400, ""),
    "a bare CR": (GET + b"X: a\rY: b\r\n\r\n", 400, ""),
    "a bare LF": (b"GET / HTTP/1.1\nHost: x\n\n", 400, ""),
    "a NUL": (GET + b"X: a\0b\r\n\r\n", 400, ""),
    "an unknown expectation": (LINE + HOST + LENGTH + b"Expect: tea\r\n\r\nhello", 417, "Expect; got tea"),
    "one more expectation": (LINE + HOST + LENGTH + b"Expect: 100-continue, tea\r\n\r\nhello", 417, "Expect; got"),
    "an upgrade with a body": (LINE + HOST + UPGRADE + LENGTH + b"\r\nhello", 400, "Upgrade; got one with a body"),
    "an upgrade with chunks": (LINE + HOST + UPGRADE + CHUNKED + CHUNKS, 400, "Upgrade; got one with a body"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_head_that_could_be_read_in_two_ways_is_refused(name):
    sent, status, message = REFUSED[name]
    async with serving() as world:
        world.app.may_answer.set()
        caller = await world.call()
        await caller.send(sent)
        seen, said = await refusal(caller)
    assert seen == status
    assert said.startswith(message)
    assert world.app.bodies.empty()


@pytest.mark.parametrize(
    "sent",
    [
        LINE + b"host: X-1.example.:8000\r\nContent-Length: 5\r\n\r\nhello",
        LINE + b"Host: [::1]:80\r\nContent-Length:  5 \r\n\r\nhello",
        LINE + HOST + b"transfer-encoding:  CHUNKED \r\n" + CHUNKS,
        LINE + HOST + CHUNKED + b"\r\n5;note=1\r\nhello\r\n0;last\r\nX-Trailer: a\r\n\r\n",
        LINE + HOST + b"TE: identity\r\nTE: chunked\r\nContent-Length: 5\r\n\r\nhello",
        LINE + HOST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello",
        b"POST http://y/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: tea\r\n\r\nhello",
    ],
)
async def test_a_clear_head_is_taken(sent):
    received = await answer(sent)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"/", b"x"), (b"http://y:8/a?b", b"y:8"), (b"HTTPS://y", b"y"), (b"//y/a", b"x"), (b"*", b"x")],
)
def test_the_host_of_the_target_is_the_host(target, host):
    headers = [(b"a", b"b"), (b"host", b"x")]
    check_head("1.1", target, headers, is_upgrade=False)
    assert headers == [(b"a", b"b"), (b"host", host)]


def test_only_a_head_that_is_wrong_is_refused():
    with pytest.raises(ServeError, match="request target"):
        check_head("1.1", b"healthz", [(b"host", b"x")], is_upgrade=False)


async def test_an_upgrade_is_answered_as_if_nobody_had_asked_and_is_the_last():
    received = await answer(GET, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", GET, END)
    assert received.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in received


# --- Size ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [END, b"X: aaa", b"X: aaa\r\n", b""])
async def test_pipelined_heads_have_a_budget_each(rest):
    """They come in one piece: what belongs to others must not count for the last one, whole or not."""
    head = GET + b"X: " + b"a" * 900 + b"\r\n"
    async with serving(max_header_bytes=1000) as world:
        world.app.may_answer.set()
        caller = await world.call()
        await caller.send(*[head + END] * 20, head[: len(GET)], rest)
        caller.half_close()
        received = await answers(caller)
    assert received.count(b"HTTP/1.1 200 OK") == 20 + (rest == END)
    assert b" 431 " not in received
    assert world.ended == {}


@pytest.mark.parametrize(
    "endless", [b"a: " + b"b" * 50, b"0\r\nX: " + b"b" * 50, b"5;note=" + b"b" * 50, b"0\r\n" + b"a: b\r\n" * 10],
    ids=["header", "trailer", "chunk extension", "trailers"],
)  # fmt: skip
@pytest.mark.parametrize("size", [50, 3000])
async def test_whatever_never_ends_is_refused(endless, size):
    """Trailers and extensions of chunks are held back, or skipped, like headers: their bytes count."""
    head = LINE + HOST + (b"" if endless.startswith(b"a") else CHUNKED + END)
    more = (b"a: b\r\n" if endless.endswith(b"\r\n") else b"b") * (size // 6)
    async with serving(max_header_bytes=1000) as world:
        caller = await world.call()
        await caller.send(head + endless)
        sending = asyncio.create_task(flood(caller, more))
        status, message = await refusal(caller)
        sending.cancel()
    assert (status, message.split(";")[0]) == (431, "the request line and headers")
    assert world.ended == {"head_too_large": 1}


async def flood(caller: Caller, data: bytes) -> None:
    try:
        while True:
            await caller.send(data)
            await asyncio.sleep(0)
    except ConnectionError:
        pass


# --- Trailers --------------------------------------------------------------------------------


async def test_what_comes_behind_a_body_changes_nothing_before_it():
    async with serving() as world:
        seen = []

        async def app(scope, receive, send):
            seen.append(scope)
            await type(world.app).__call__(world.app, scope, receive, send)

        world.config.loaded_app = app
        world.app.may_answer.set()
        caller = await world.call()
        await caller.send(
            LINE, HOST, CHUNKED, END, b"5\r\nhello\r\n0\r\nHost: y\r\nX-Api-Key: k\r\nExpect: tea\r\n\r\n"
        )
        caller.half_close()
        assert (await answers(caller)).endswith(b"hello")
    assert [name for name, _ in seen[0]["headers"]] == [b"host", b"transfer-encoding"]


# --- Expect ----------------------------------------------------------------------------------

EXPECT = b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_who_asks_whether_to_go_on_is_told():
    async with serving() as world:
        world.app.may_answer.set()
        caller = await world.call()
        await caller.send(LINE, HOST, EXPECT)
        assert await caller.read(len(CONTINUE)) == CONTINUE
        await caller.send(b"hello")
        assert (await caller.read(15)) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "sent",
    [
        LINE + HOST + EXPECT + b"hello",
        LINE + HOST + EXPECT + b"he",
        LINE + HOST + b"Content-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        GET + b"Expect: 100-continue\r\n\r\n",
        LINE.replace(b"1.1", b"1.0") + HOST + EXPECT,
        LINE.replace(b"1.1", b"1.0") + HOST + EXPECT + b"hello",
        LINE + HOST + b"Content-Length: 5\r\n\r\nhello",
        LINE + HOST + b"Content-Length: 5\r\n\r\nhe",
    ],
)
async def test_nobody_else_is_told_to_go_on(sent):
    assert b" 100 " not in await answer(sent)


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/classify", 413), ("/v1/models/x/quote", 413), ("/nope", 404), ("/healthz", 405)]
)
async def test_an_answer_in_place_of_go_on_is_the_last(path, status):
    """The body may come nevertheless, so what comes next cannot be read as a request."""
    async with serving_app(max_body_bytes=100) as client:
        for expect, last in [({"Expect": "100-continue"}, "close"), ({}, None)]:
            response = await client.post(path, headers={"Content-Length": "101", **expect}, content=b"a" * 101)
            assert (response.status_code, response.headers.get("Connection")) == (status, last)
        answer = await client.post("/v1/classify", headers={"Expect": "100-continue"}, content=b"no image")
        assert "Connection" not in answer.headers
