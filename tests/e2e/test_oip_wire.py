"""HTTP as no client library would write it: chunks, Expect, lengths that lie, several calls on one connection."""

import json
from collections.abc import Iterator

import pytest

from loadtest.conformance.http import Connection as RawConnection
from loadtest.conformance.http import Http
from loadtest.process import start_server

PATH = "/v2/models/adatape_fake/infer"
PIXELS = bytes([127]) * 192
DOCUMENT = json.dumps(
    {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "parameters": {"binary_data_size": 192}}]}
).encode()
BODY = DOCUMENT + PIXELS
LENGTH = f"Inference-Header-Content-Length: {len(DOCUMENT)}"
MAX_BODY_BYTES = 10_000


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    with start_server("--backend", "fake", "--max-body-bytes", str(MAX_BODY_BYTES)) as running:
        yield Http(running.url, 30, lambda _: None)
        assert "Traceback" not in running.log


class Connection:
    """One connection, byte by byte."""

    def __init__(self, raw: RawConnection) -> None:
        self.raw = raw

    def send(self, *headers: str, body: bytes = b"", path: str = PATH, method: str = "POST") -> None:
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers])
        self.raw.send(head.encode() + b"\r\n\r\n" + body)

    def receive(self) -> tuple[int, dict[str, object]]:
        """Return the status and JSON of one reply."""
        response = self.raw.read_interim()
        if response.status == 100:
            return response.status, {}
        assert response.header("content-type") == "application/json"
        return response.status, response.json()


@pytest.fixture
def connection(http: Http) -> Iterator[Connection]:
    with http.open() as raw:
        yield Connection(raw)


def check_usable(connection: Connection) -> None:
    connection.send(LENGTH, f"Content-Length: {len(BODY)}", body=BODY)
    status, document = connection.receive()
    assert (status, document["model_name"]) == (200, "adatape_fake")


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def test_chunks(connection: Connection) -> None:
    connection.send(LENGTH, "Transfer-Encoding: chunked", body=chunked(BODY[:7], BODY[7:150], BODY[150:]))
    assert connection.receive()[0] == 200
    check_usable(connection)


def test_chunks_without_an_end_to_them_are_bounded(connection: Connection) -> None:
    connection.send("Transfer-Encoding: chunked", body=chunked(*[bytes(3000)] * 4))
    status, document = connection.receive()
    assert status == 413
    assert document["error"] == "the request body is too large; got more than 10000 bytes; expected at most 10000 bytes"


def test_expect_is_answered_before_the_body(connection: Connection) -> None:
    connection.send(LENGTH, f"Content-Length: {len(BODY)}", "Expect: 100-continue")
    assert connection.receive()[0] == 100
    connection.raw.send(BODY)
    assert connection.receive()[0] == 200
    check_usable(connection)


def test_a_body_announced_as_too_large_is_refused_before_it_comes(connection: Connection) -> None:
    connection.send("Content-Length: 999999999", "Expect: 100-continue")
    assert connection.receive()[0] == 413


@pytest.mark.parametrize("length", ["-1", "x", "", "999999", "1e1"])
def test_a_wrong_header_length_costs_the_connection_nothing(connection: Connection, length: str) -> None:
    header = f"Inference-Header-Content-Length: {length}"
    connection.send(header, f"Content-Length: {len(BODY)}", body=BODY)
    status, document = connection.receive()
    assert status == 400
    assert str(document["error"]).startswith("Inference-Header-Content-Length; got ")
    check_usable(connection)


def test_every_refusal_leaves_the_connection_usable(connection: Connection) -> None:
    for path, method, body, expected in [
        (PATH, "POST", b"{", 400),
        ("/v2/models/cat/infer", "POST", BODY, 400),
        ("/v2/models/cat", "GET", b"", 404),
        ("/v2/nothing", "POST", b"x" * 100, 404),
        (PATH, "PUT", BODY, 405),
        (PATH, "POST", b"\x1f\x8b\x08", 400),
    ]:
        connection.send(f"Content-Length: {len(body)}", body=body, path=path, method=method)
        status, document = connection.receive()
        assert (status, list(document)) == (expected, ["error"])
        check_usable(connection)


def test_calls_in_one_breath(connection: Connection) -> None:
    """Pipelined calls are answered in their order."""
    for _ in range(5):
        connection.send(LENGTH, f"Content-Length: {len(BODY)}", body=BODY)
    connection.send(path="/v2/health/live", method="GET")
    assert [connection.receive()[0] for _ in range(6)] == [200] * 6


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "x"])
def test_an_unknown_transfer_encoding_is_refused(connection: Connection, coding: str) -> None:
    connection.send(LENGTH, f"Transfer-Encoding: {coding}", body=chunked(BODY))
    status, document = connection.receive()
    assert (status, list(document)) == (400, ["error"])
