"""gzip and deflate, of requests and of answers."""

import gzip
import zlib
from collections.abc import Callable
from functools import lru_cache

from loadtest.conformance.expect import expect, expect_equal
from loadtest.conformance.http import Response
from loadtest.conformance.messages import Message, binary_message, json_message, read_answer
from loadtest.conformance.registry import MUST, ROBUST, TRITON, check
from loadtest.conformance.target import Target, expect_refused

SOURCE = "tritonclient.http: request_compression_algorithm, response_compression_algorithm; RFC 9110 8.4"
Pack = Callable[[bytes], bytes]


def post(target: Target, message: Message, pack: Pack, coding: str) -> Response:
    """Send a compressed request; header lengths count what is inside."""
    return target.infer(Message(pack(message.body), message.headers), Content_Encoding=coding)


def unpacked(response: Response, coding: str, unpack: Pack) -> Response:
    """Undo the coding that a response has to have."""
    expect_equal(response.header("content-encoding"), coding, "Content-Encoding")
    return Response(response.status, response.headers, unpack(response.body))


@check("http.compression.gzip_request", TRITON, SOURCE)
def gzip_request(target: Target) -> None:
    """A gzip request is answered."""
    read_answer(post(target, json_message(target.model.tensors()), gzip.compress, "gzip"))


@check("http.compression.deflate_request", TRITON, SOURCE + ": deflate is a zlib stream")
def deflate_request(target: Target) -> None:
    """A deflate request is answered."""
    read_answer(post(target, json_message(target.model.tensors()), zlib.compress, "deflate"))


@check("http.compression.gzip_binary_request", TRITON, SOURCE)
def gzip_binary_request(target: Target) -> None:
    """A gzip request with binary tensors is answered; its header length counts the document before compression."""
    read_answer(post(target, binary_message(target.model.tensors()), gzip.compress, "gzip"))


@check("http.compression.gzip_response", TRITON, SOURCE)
def gzip_response(target: Target) -> None:
    """A response is gzip where Accept-Encoding asks for it."""
    response = target.infer(json_message(target.model.tensors()), Accept_Encoding="gzip")
    read_answer(unpacked(response, "gzip", gzip.decompress))


@check("http.compression.deflate_response", TRITON, SOURCE)
def deflate_response(target: Target) -> None:
    """A response is deflate where Accept-Encoding asks for it."""
    response = target.infer(json_message(target.model.tensors()), Accept_Encoding="deflate")
    read_answer(unpacked(response, "deflate", zlib.decompress))


@check("http.compression.binary_response", TRITON, SOURCE)
def binary_response(target: Target) -> None:
    """A compressed binary response has the header length of its document before compression."""
    response = target.infer(binary_message(target.model.tensors()), Accept_Encoding="gzip")
    read_answer(unpacked(response, "gzip", gzip.decompress))


@check("http.compression.not_asked", MUST, "RFC 9110 12.5.3")
def not_asked(target: Target) -> None:
    """Without Accept-Encoding a response is not compressed."""
    response = target.infer(json_message(target.model.tensors()))
    expect(response.header("content-encoding") in {None, "identity"}, response.header("content-encoding"), "none")


@check("http.compression.not_acceptable", MUST, "RFC 9110 12.5.3")
def not_acceptable(target: Target) -> None:
    """A coding with weight 0 is not used."""
    response = target.infer(json_message(target.model.tensors()), Accept_Encoding="gzip;q=0, deflate;q=0")
    expect(response.header("content-encoding") in {None, "identity"}, response.header("content-encoding"), "none")
    read_answer(response)


@check("http.compression.no_brotli", TRITON, "clients of the protocol decode gzip and deflate only")
def no_brotli(target: Target) -> None:
    """A client that would also take br or zstd gets gzip, deflate or none."""
    response = target.infer(json_message(target.model.tensors()), Accept_Encoding="br, zstd, gzip;q=0.1")
    expect(
        response.header("content-encoding") in {None, "identity", "gzip"}, response.header("content-encoding"), "gzip"
    )


@check("http.compression.gzip_broken", TRITON, SOURCE)
def gzip_broken(target: Target) -> None:
    """A gzip body that is none is refused."""
    expect_refused(post(target, json_message(target.model.tensors()), lambda body: body, "gzip"))
    target.is_alive()


@check("http.compression.gzip_cut", TRITON, SOURCE)
def gzip_cut(target: Target) -> None:
    """A gzip body that ends too early is refused."""
    expect_refused(post(target, json_message(target.model.tensors()), lambda body: gzip.compress(body)[:-9], "gzip"))
    target.is_alive()


@check("http.compression.unknown", MUST, "RFC 9110 15.5.16")
def unknown(target: Target) -> None:
    """A content coding that the server does not know is refused, not ignored."""
    expect_refused(post(target, json_message(target.model.tensors()), lambda body: body, "martian"))


BOMB_MIB = 256


@lru_cache(maxsize=4)
def spaces_behind(text: bytes) -> bytes:
    """Return a text and a great many spaces behind it, as gzip."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(part) for part in (text, *([b" " * (1 << 20)] * BOMB_MIB))]
    return b"".join([*parts, packer.flush()])


@check("http.compression.bomb", ROBUST, "RFC 9110 15.5.14", hazard=True)
def bomb(target: Target) -> None:
    """A small body that unfolds into 256 MiB is refused."""
    expect_refused(post(target, Message(spaces_behind(b""), {}), lambda body: body, "gzip"), {400, 413})
    target.is_alive()


@check("http.compression.bomb_of_spaces", ROBUST, "RFC 9110 15.5.14", hazard=True)
def bomb_around_a_request(target: Target) -> None:
    """A sound request inside 256 MiB of white space is refused for its size."""
    message = Message(spaces_behind(json_message(target.model.tensors()).body), {})
    expect_refused(post(target, message, lambda body: body, "gzip"), {400, 413})
    target.is_alive()


@check("http.framing.huge_length", ROBUST, "RFC 9110 15.5.14", hazard=True)
def huge_length(target: Target) -> None:
    """A Content-Length of a terabyte is refused before the body comes."""
    with target.http.open() as connection:
        connection.send(
            connection.head("POST", target.http.path(target.model_path("infer")), {"Content-Length": str(1 << 40)})
        )
        expect_refused(connection.read(), {400, 413})
    target.is_alive()
