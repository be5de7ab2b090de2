"""Bytes on the HTTP port: requests that Hypothesis composes and breaks, and boofuzz's mutations of one of each kind.

They go over raw sockets, because they are broken on purpose.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress

from boofuzz import Block, Bytes, Delim, Group, Request, Size, Static, String
from boofuzz.mutation_context import MutationContext
from boofuzz.protocol_session import ProtocolSession
from hypothesis import strategies as st

from loadtest.lean_http import parse_reply
from tests.fuzz import shapes
from tests.fuzz.results import TargetResult

HANG_S = 10.0
"""An answer, or the end of the connection, has to come within this, once all was sent and our side is closed."""
PATIENCE_S = 0.005
"""How long an answer may take before our side is closed: a request that is not whole gets none before."""
MAX_BYTES = 1 << 16
"""Longer mutations are left out, for the sake of speed; `http_limits` of the chaos harness covers size."""


def requests(paths: list[str]) -> st.SearchStrategy[bytes]:
    """Return requests, most of them well-formed, others not."""
    query = st.lists(st.tuples(st.sampled_from(shapes.NAMES), shapes.words), max_size=3)
    headers = st.lists(st.tuples(st.sampled_from(shapes.HEADERS), shapes.headings), max_size=3)
    lengths = st.sampled_from([None] * 9 + [-1, 1, 10**9])
    versions = st.sampled_from(["HTTP/1.1"] * 12 + ["HTTP/1.0", "HTTP/9.9", ""])
    composed = st.builds(
        _compose, st.sampled_from(shapes.METHODS), st.sampled_from(paths), query, versions, headers, lengths,
        shapes.bodies,
    )  # fmt: skip
    return shapes.broken(composed) | st.binary(max_size=300)


def _compose(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    version: str,
    headers: list[tuple[str, str]],
    length_error: int | None,
    body: bytes,
) -> bytes:
    target = path + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")
    head = [f"{method} {target} {version}", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
    if body or length_error:
        head.append(f"Content-Length: {len(body) + (length_error or 0)}")
    return "\r\n".join([*head, "", ""]).encode("utf-8", "surrogatepass") + body


def mutations(model: str) -> Iterator[bytes]:
    """Give every boofuzz mutation of a classify form and of a binary infer call, shorter than `MAX_BYTES`."""
    for request in (_classify(), _infer(model)):
        for each in request.get_mutations():
            context = MutationContext({made.qualified_name: made for made in each}, protocol_session=ProtocolSession())
            data = request.render(mutation_context=context)
            if len(data) < MAX_BYTES:
                yield data


def _head(path: str, *children: Static | String | Size | Block) -> Block:
    line = (
        Group("method", values=["POST", "GET"]), Delim("space", " "), String("path", path),
        Static("rest", " HTTP/1.1\r\nHost: localhost\r\nContent-Length: "),
        Size("length", "body", output_format="ascii"),
    )  # fmt: skip
    return Block("head", children=(*line, *children, Static("end", "\r\n\r\n")))


def _classify() -> Request:
    kind = (Static("name", "\r\nContent-Type: "), String("type", "multipart/form-data; boundary=b"))
    body = (
        Static("open", '--b\r\nContent-Disposition: form-data; name="'), String("field", "file"),
        Static("file", '"; filename="'), String("filename", "f.png"), Static("gap", '"\r\n\r\n'),
        Bytes("image", shapes.PICTURES[0]), Static("close", "\r\n--"), String("boundary", "b"), Static("tail", "--"),
    )  # fmt: skip
    return Request("classify", children=(_head("/v1/classify", *kind), Block("body", children=body)))


def _infer(model: str) -> Request:
    kind = (
        Static("name", "\r\nInference-Header-Content-Length: "), Size("json", "document", output_format="ascii"),
    )  # fmt: skip
    document = (
        Static("a", '{"inputs":[{"name":"'), String("input", "encoded"), Static("b", '","datatype":"'),
        String("datatype", "BYTES"), Static("c", '","shape":['), String("shape", "1,1"),
        Static("d", '],"parameters":{"binary_data_size":'), Size("size", "data", output_format="ascii"),
        Static("e", "}}]}"),
    )  # fmt: skip
    data = (
        Size("string", "picture", length=4, endian="<"),
        Block("picture", children=Bytes("png", shapes.PICTURES[0])),
    )
    body = (Block("document", children=document), Block("data", children=data))
    return Request("infer", children=(_head(f"/v2/models/{model}/infer", *kind), Block("body", children=body)))


def send(address: tuple[str, int], data: bytes, result: TargetResult) -> None:
    """Send one case and judge what comes back."""
    try:
        received = _exchange(address, data)
    except TimeoutError:
        result.add("hang", f"no answer and no end within {HANG_S:g} s: {data[:400]!r}")
        return
    statuses = _statuses(received)
    fault = f"500 for {data[:400]!r}: {received[-300:]!r}" if 500 in statuses else None
    result.add(" ".join(map(str, statuses[:2])) or "closed", fault)


def _exchange(address: tuple[str, int], data: bytes) -> bytes:
    received = b""
    with socket.create_connection(address, timeout=HANG_S) as connection, suppress(ConnectionError):
        connection.sendall(data)
        with suppress(TimeoutError):
            connection.settimeout(PATIENCE_S)
            received = connection.recv(MAX_BYTES)
        connection.settimeout(HANG_S)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(MAX_BYTES):
            received += more
    return received


def _statuses(received: bytes) -> list[int]:
    """Return the statuses of the replies, one after the other; what follows a cut reply is not looked at."""
    statuses = []
    while received.startswith(b"HTTP/1."):
        statuses.append(int(received[9:12]))
        reply = parse_reply(received)
        received = b"" if reply is None else received[len(reply.head) + 4 + len(reply.body) :]
    return statuses
