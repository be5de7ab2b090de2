"""The framing of requests: what HTTP/1.1 allows, and what it forbids."""

from collections.abc import Mapping

from loadtest.conformance.expect import Failure, expect, expect_equal
from loadtest.conformance.http import Connection, Response
from loadtest.conformance.messages import binary_message, json_message, read_answer
from loadtest.conformance.registry import MUST, ROBUST, check
from loadtest.conformance.target import Target

REFUSALS = range(400, 506)


def infer_path(target: Target) -> str:
    """Return the full path of the model's infer call."""
    return target.http.path(target.model_path("infer"))


def sound_body(target: Target, name: str = "a") -> bytes:
    """Return the body of a request that has to be answered."""
    return json_message(target.model.tensors(), id=name).body


def ask_bare(target: Target, headers: Mapping[str, str], body: bytes) -> Response | None:
    """Send a request as it stands, then nothing more; return the reply, None if the server just hangs up."""
    with target.http.open() as connection:
        connection.send(connection.head("POST", infer_path(target), headers) + body)
        return read_or_close(target, connection)


def read_or_close(target: Target, connection: Connection) -> Response | None:
    """Return the next reply, None if the server just hangs up."""
    try:
        return connection.read()
    except Failure:
        if target.seen[-1:] == ["closed"]:
            return None
        raise


def refused_or_closed(target: Target, response: Response | None) -> None:
    """Expect that a request which cannot be understood was not answered, and the server lives."""
    status = None if response is None else response.status
    expect(status is None or status in REFUSALS, f"status {status}", "an error, or the connection closed")
    target.is_alive()


@check("http.framing.keep_alive", MUST, "RFC 9112 9.3")
def keep_alive(target: Target) -> None:
    """A connection carries several requests, one after the other."""
    with target.http.open() as connection:
        for name in ("1", "2", "3"):
            answer = read_answer(connection.request("POST", infer_path(target), sound_body(target, name)))
            expect_equal(answer.document.get("id"), name, "id")


@check("http.framing.pipelined", MUST, "RFC 9112 9.3.2")
def pipelined(target: Target) -> None:
    """Requests sent without waiting are answered in their order."""
    names = ("1", "2", "3")
    with target.http.open() as connection:
        for name in names:
            body = sound_body(target, name)
            connection.send(connection.head("POST", infer_path(target), {"Content-Length": str(len(body))}) + body)
        got = tuple(read_answer(connection.read()).document.get("id") for _ in names)
    expect_equal(got, names, "ids")


@check("http.framing.byte_by_byte", MUST, "RFC 9112 2.2: a message is a sequence of octets, however they arrive")
def byte_by_byte(target: Target) -> None:
    """A request that arrives in small pieces is answered."""
    body = sound_body(target)
    with target.http.open() as connection:
        whole = connection.head("POST", infer_path(target), {"Content-Length": str(len(body))}) + body
        step = max(1, len(whole) // 50)
        for start in range(0, len(whole), step):
            connection.send(whole[start : start + step])
        read_answer(connection.read())


@check("http.framing.half_closed", ROBUST, "RFC 9112 9.6 is silent: some servers take it for a client that has gone")
def half_closed(target: Target) -> None:
    """A client that has sent all it will send gets its answer, or is hung up on: it is not left waiting."""
    body = sound_body(target)
    with target.http.open() as connection:
        connection.send(connection.head("POST", infer_path(target), {"Content-Length": str(len(body))}) + body)
        connection.half_close()
        response = read_or_close(target, connection)
    if response is not None:
        read_answer(response)


@check("http.framing.connection_close", MUST, "RFC 9112 9.6")
def connection_close(target: Target) -> None:
    """Connection: close is obeyed, after the answer."""
    with target.http.open() as connection:
        read_answer(connection.request("POST", infer_path(target), sound_body(target), {"Connection": "close"}))
        try:
            connection.read()
        except Failure:
            expect(target.seen[-1] == "closed", "an open connection", "the connection closed")
            return
    raise Failure("got a second reply; expected the connection closed")


@check("http.framing.chunked", MUST, "RFC 9112 7.1")
def chunked(target: Target) -> None:
    """A chunked request is answered."""
    body = sound_body(target)
    middle = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:middle], body[middle:], b""))
    response = ask_bare(target, {"Transfer-Encoding": "chunked"}, chunks)
    expect(response is not None, "the connection closed", "an answer")
    if response is not None:
        read_answer(response)


@check("http.framing.chunked_binary", MUST, "RFC 9112 7.1")
def chunked_binary(target: Target) -> None:
    """A chunked request may hold binary tensors."""
    message = binary_message(target.model.tensors())
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (message.body, b""))
    response = ask_bare(target, {"Transfer-Encoding": "chunked", **message.headers}, chunks)
    expect(response is not None, "the connection closed", "an answer")
    if response is not None:
        read_answer(response)


@check("http.framing.chunks_broken", MUST, "RFC 9112 7.1")
def chunks_broken(target: Target) -> None:
    """A chunk whose length is no number is refused."""
    refused_or_closed(target, ask_bare(target, {"Transfer-Encoding": "chunked"}, b"zz\r\nabc\r\n0\r\n\r\n"))


@check("http.framing.unknown_transfer_coding", MUST, "RFC 9112 6.1")
def unknown_transfer_coding(target: Target) -> None:
    """A transfer coding that the server does not know is refused."""
    refused_or_closed(target, ask_bare(target, {"Transfer-Encoding": "martian"}, sound_body(target)))


@check("http.framing.two_lengths", MUST, "RFC 9112 6.3")
def two_lengths(target: Target) -> None:
    """Two different Content-Length headers are refused."""
    body = sound_body(target)
    headers = {"Content-Length": str(len(body)), "content-length": str(len(body) - 1)}
    refused_or_closed(target, ask_bare(target, headers, body))


@check("http.framing.length_and_chunks", MUST, "RFC 9112 6.1: request smuggling")
def length_and_chunks(target: Target) -> None:
    """Of Content-Length and Transfer-Encoding the latter wins, or the request is refused; nothing is left over."""
    body = sound_body(target)
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with target.http.open() as connection:
        headers = {"Content-Length": "3", "Transfer-Encoding": "chunked"}
        connection.send(connection.head("POST", infer_path(target), headers) + chunk)
        response = read_or_close(target, connection)
        if response is not None and response.status == 200:
            read_answer(response)
            return
    refused_or_closed(target, response)


@check("http.framing.length_negative", MUST, "RFC 9110 8.6")
def length_negative(target: Target) -> None:
    """A negative Content-Length is refused."""
    refused_or_closed(target, ask_bare(target, {"Content-Length": "-5"}, b"hello"))


@check("http.framing.length_not_a_number", MUST, "RFC 9110 8.6")
def length_not_a_number(target: Target) -> None:
    """A Content-Length that is no number is refused."""
    refused_or_closed(target, ask_bare(target, {"Content-Length": "five"}, b"hello"))


@check("http.framing.body_cut", MUST, "RFC 9112 8")
def body_cut(target: Target) -> None:
    """A body that ends before its Content-Length is not taken for whole."""
    body = sound_body(target)
    with target.http.open() as connection:
        connection.send(connection.head("POST", infer_path(target), {"Content-Length": str(len(body) + 10)}) + body)
        connection.half_close()
        response = read_or_close(target, connection)
    refused_or_closed(target, response)


@check("http.framing.expect_continue", MUST, "RFC 9110 10.1.1")
def expect_continue(target: Target) -> None:
    """Expect: 100-continue is answered before the body comes."""
    body = sound_body(target)
    with target.http.open() as connection:
        headers = {"Content-Length": str(len(body)), "Expect": "100-continue"}
        connection.send(connection.head("POST", infer_path(target), headers))
        expect_equal(connection.read_interim().status, 100, "status")
        connection.send(body)
        read_answer(connection.read())


@check("http.framing.header_too_long", ROBUST, "RFC 9110 5.4")
def header_too_long(target: Target) -> None:
    """A header of a megabyte is refused, or borne; the server lives."""
    body = sound_body(target)
    headers = {"Content-Length": str(len(body)), "X-Long": "a" * (1 << 20)}
    response = ask_bare(target, headers, body)
    status = None if response is None else response.status
    expect(status in {None, 200, *REFUSALS}, f"status {status}", "an answer, an error, or the connection closed")
    target.is_alive()


@check("http.framing.not_http", MUST, "RFC 9112 3")
def not_http(target: Target) -> None:
    """Bytes that are no HTTP are refused."""
    with target.http.open() as connection:
        connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        connection.half_close()
        response = read_or_close(target, connection)
    refused_or_closed(target, response)


@check("http.framing.gone_client", ROBUST, "RFC 9112 9.6")
def gone_client(target: Target) -> None:
    """A client that goes away in the middle of its request harms no other."""
    for _ in range(20):
        with target.http.open() as connection:
            connection.send(connection.head("POST", infer_path(target), {"Content-Length": "1000"}) + b"half")
    target.is_alive()
