"""A server told to stop answers what it has accepted, then ends well."""

import socket
from contextlib import ExitStack, suppress

import httpx

from tests.e2e.booting import booted
from tests.e2e.test_classify import picture

NUM_CLIENTS = 8


def begin(url: httpx.URL, content: bytes) -> socket.socket:
    """Send half of a request; return once the server has accepted it."""
    connection = socket.create_connection((url.host, url.port), timeout=30)
    lines = ["POST /v1/classify HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", "Expect: 100-continue"]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(content[: len(content) // 2])
    return connection


def wait_until_closed(url: httpx.URL) -> None:
    """Return once the server takes no new connection: its door closes before its work ends."""
    with suppress(ConnectionError):
        while True:
            socket.create_connection((url.host, url.port), timeout=10).close()


def test_what_was_accepted_before_the_signal_is_answered():
    content = picture()
    with booted("--backend", "fake") as running, ExitStack() as stack:
        url = httpx.URL(running.url)
        connections = [stack.enter_context(begin(url, content)) for _ in range(NUM_CLIENTS)]
        running.process.terminate()
        wait_until_closed(url)
        for connection in connections:
            connection.sendall(content[len(content) // 2 :])
        answers = [connection.recv(65536) for connection in connections]
        assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 200 OK"] * NUM_CLIENTS
        assert running.ended() == 0
    assert "abandoned=0" in running.log
    assert "Traceback" not in running.log
