"""Servers with faults: some answer everything alike, the others stand before a sound server and spoil its replies."""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import grpc

from loadtest.conformance.http import Connection, Response

HEADER_LENGTH = "inference-header-content-length"


@dataclass(frozen=True)
class Request:
    """What a proxy read."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Spoil = Callable[[Request, Response], Response]


class Closes(Exception):
    """Raised by a fault that hangs up instead of answering."""


def with_header(response: Response, name: str, value: str | None) -> Response:
    """Set a header, or leave it out."""
    kept = [pair for pair in response.headers if pair[0] != name]
    return replace(response, headers=(*kept, *([(name, value)] if value is not None else [])))


def with_json(response: Response, change: Callable[[dict], object]) -> Response:
    """Change the JSON document of a reply that has one; `change` works in place or returns another."""
    length = int(dict(response.headers).get(HEADER_LENGTH, len(response.body)))
    try:
        document = json.loads(response.body[:length])
    except ValueError:
        return response
    changed = change(document)
    head = json.dumps(document if changed is None else changed).encode()
    spoilt = replace(response, body=head + response.body[length:])
    return with_header(spoilt, HEADER_LENGTH, str(len(head))) if HEADER_LENGTH in dict(response.headers) else spoilt


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while (request := self._read()) is not None:
                self.request.sendall(render(self.server.answer(request)))
        except (Closes, OSError, ValueError):
            return

    def _read(self) -> Request | None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = self.request.recv(65536)
            if not data:
                return None
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect") == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts = [body]
        while sum(map(len, parts)) < int(headers.get("content-length", 0)):
            parts.append(self.request.recv(1 << 20))
            if not parts[-1]:
                raise Closes
        return Request(method, path, headers, b"".join(parts))


def render(response: Response) -> bytes:
    """Return a reply as bytes, with its true Content-Length."""
    headers = with_header(response, "content-length", str(len(response.body))).headers
    lines = [f"HTTP/1.1 {response.status} Some", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    answer: Callable[[Request], Response]


@contextmanager
def serving(answer: Callable[[Request], Response]) -> Iterator[str]:
    """Serve HTTP with one function; give its address."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def forwarded(address: str, spoil: Spoil) -> Callable[[Request], Response]:
    """Return a function that asks a sound server and spoils what it answers."""
    host, port = address.rsplit(":", 1)

    def answer(request: Request) -> Response:
        with socket.create_connection((host, int(port)), 10) as sock:
            connection = Connection(sock, address, lambda _: None)
            kept = {key: value for key, value in request.headers.items() if key not in {"host", "connection", "expect"}}
            connection.send(connection.head(request.method, request.path, {**kept, "connection": "close"}))
            connection.send(request.body)
            response = connection.read()
        response = with_header(with_header(response, "transfer-encoding", None), "connection", None)
        return spoil(request, response)

    return answer


# --- gRPC ---

Change = Callable[[str, bytes, bytes], bytes]
"""Takes a method's name, its request and its reply; returns another reply, or raises Refuses."""


class Refuses(Exception):
    """A status in the place of a reply."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class _Relay(grpc.GenericRpcHandler):
    """Hands every call on, as bytes."""

    def __init__(self, channel: grpc.Channel | None, change: Change) -> None:
        self._channel = channel
        self._change = change

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method, name = details.method, details.method.rpartition("/")[2]
        if name in {"ModelStreamInfer", "ServerReflectionInfo", "Watch"}:
            return grpc.stream_stream_rpc_method_handler(
                lambda requests, context: self._stream(method, requests, context)
            )
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._unary(method, request, context))

    def _unary(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            reply = b"" if self._channel is None else self._channel.unary_unary(method)(request, timeout=10)
            return self._change(method.rpartition("/")[2], request, reply)
        except grpc.RpcError as error:
            return self._refuse(method, request, context, Refuses(error.code(), error.details()))
        except Refuses as refuses:
            context.abort(refuses.code, refuses.details)

    def _refuse(self, method: str, request: bytes, context: grpc.ServicerContext, refused: Refuses) -> bytes:
        """Let the fault see a refusal, as a reply that begins with its code."""
        try:
            return self._change(method.rpartition("/")[2] + "!" + refused.code.name, request, b"")
        except Refuses as refuses:
            context.abort(refuses.code, refuses.details)
        except KeyError:
            context.abort(refused.code, refused.details)

    def _stream(self, method: str, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        name = method.rpartition("/")[2]
        try:
            replies = (
                iter([b""]) if self._channel is None else self._channel.stream_stream(method)(requests, timeout=10)
            )
            for reply in replies:
                changed = self._change(name, b"", reply)
                if changed is not None:
                    yield changed
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        except Refuses as refuses:
            context.abort(refuses.code, refuses.details)


@contextmanager
def relaying(upstream: str | None, change: Change) -> Iterator[str]:
    """Serve gRPC by asking a sound server, or none, and changing what it answers; give the address."""
    server = grpc.server(ThreadPoolExecutor(16))
    port = server.add_insecure_port("127.0.0.1:0")
    channel = None if upstream is None else grpc.insecure_channel(upstream)
    server.add_generic_rpc_handlers([_Relay(channel, change)])
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        if channel is not None:
            channel.close()
