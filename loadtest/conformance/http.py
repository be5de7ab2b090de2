"""HTTP/1.1 over a raw socket, because checks send broken framing on purpose, which no client library would send."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtest.conformance.expect import Failure

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Response:
    """One reply as it came; header names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name.lower()), None)

    def json(self) -> Any:
        """Return the body's JSON value.

        Raises: Failure if it has none.
        """
        try:
            return json.loads(self.body.decode("utf-8", "strict"))
        except ValueError as error:
            raise Failure(f"got body {self.body[:120]!r} with status {self.status}; expected JSON in UTF-8") from error


class Connection:
    """One connection; several exchanges may follow each other on it."""

    def __init__(
        self, sock: socket.socket, host: str, note: Callable[[str], None], shown: Mapping[str, str] = {}
    ) -> None:
        self._socket = sock
        self._host = host
        self._note = note
        self._shown = shown
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes as they are; a server that has hung up already may still have answered."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> Response:
        """Send a request with its true Content-Length and return the reply."""
        self.send(self.head(method, path, headers if body is None else {"Content-Length": str(len(body)), **headers}))
        self.send(body or b"")
        return self.read()

    def head(self, method: str, path: str, headers: Mapping[str, str] = {}) -> bytes:
        """Return a request's first lines as bytes."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in {**self._shown, **headers}.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def half_close(self) -> None:
        """Say that nothing more will be sent; replies can still come."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self) -> Response:
        """Return the next final reply, past interim ones.

        Raises: Failure if the server hangs up or stays silent.
        """
        while (response := self._read_one()).status < 200:
            pass
        self._note(str(response.status))
        return response

    def read_interim(self) -> Response:
        """Return the next reply, be it an interim one."""
        response = self._read_one()
        self._note(str(response.status))
        return response

    def _read_one(self) -> Response:
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
        status = _status(lines[0])
        known = dict(headers)
        if status < 200 or status in {204, 304}:
            return Response(status, headers, b"")
        if known.get("transfer-encoding", "").lower() == "chunked":
            return Response(status, headers, self._read_chunks())
        if "content-length" in known:
            return Response(status, headers, self._take(int(known["content-length"])))
        return Response(status, headers, self._read_rest())

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._take_line().partition(b";")[0], 16):
            body += self._take(size)
            self._take(2)
        while self._take_line():
            pass
        return body

    def _take_line(self) -> bytes:
        while b"\r\n" not in self._received:
            self._more()
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._more()
        taken, self._received = self._received[:size], self._received[size:]
        return taken

    def _read_rest(self) -> bytes:
        while data := self._socket.recv(_CHUNK):
            self._received += data
        rest, self._received = self._received, b""
        return rest

    def _more(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError as error:
            raise Failure(f"got no reply within {self._socket.gettimeout():g} s; expected one") from error
        except ConnectionError as error:
            self._note("closed")
            raise Failure(f"got {error.strerror}; expected a reply") from error
        if not data:
            self._note("closed")
            raise Failure(f"got the connection closed after {self._received[:80]!r}; expected a reply")
        self._received += data


class Http:
    """A server's HTTP address. `note` hears the status of every reply; `shown` are headers of every request."""

    def __init__(
        self, address: str, timeout_s: float, note: Callable[[str], None], shown: Mapping[str, str] = {}
    ) -> None:
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"HTTP address; got {address}; expected host:port or http://host:port")
        self.host, self.port = parts.hostname, parts.port or 80
        self._base = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._note = note
        self._shown = shown

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """Give a new connection."""
        try:
            sock = socket.create_connection((self.host, self.port), self._timeout_s)
        except OSError as error:
            self._note("no connection")
            raise Failure(f"got {error}; expected a connection to {self.host}:{self.port}") from error
        with sock:
            yield Connection(sock, f"{self.host}:{self.port}", self._note, self._shown)

    def path(self, path: str) -> str:
        """Return a path below the server's base."""
        return f"{self._base}/{path}"

    def get(self, path: str, headers: Mapping[str, str] = {}) -> Response:
        with self.open() as connection:
            return connection.request("GET", self.path(path), headers=headers)

    def post(self, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> Response:
        with self.open() as connection:
            return connection.request("POST", self.path(path), body, headers)

    def send(self, method: str, path: str) -> Response:
        """Send a request without a body, with any verb."""
        with self.open() as connection:
            return connection.request(method, self.path(path), b"" if method in {"POST", "PUT"} else None)


def _status(line: str) -> int:
    parts = line.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise Failure(f"got {line[:80]!r}; expected an HTTP/1.1 status line")
    return int(parts[1])
