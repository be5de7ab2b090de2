"""HTTP/2 over a raw socket, for clients that break rules which every library keeps."""

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
FRAME_BYTES = 16_384
_FIRST_WINDOW = 65_535
_PATIENCE_S = 30.0
_WIDEST = 2**31 - 1
_STATUS = re.compile(rb"grpc-status[\x01\x02](\d+)")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(name: int, value: int) -> bytes:
    """Return one setting, as the frame of them has it."""
    return struct.pack(">HI", name, value)


def field(name: str, value: str) -> bytes:
    """Return a header as HPACK has it, without its tables and its compression."""
    return raw_field(name.encode(), value.encode())


def raw_field(name: bytes, value: bytes) -> bytes:
    """Return a header of any bytes."""
    return b"\x00" + b"".join(_length(len(part)) + part for part in (name, value))


def _length(number: int) -> bytes:
    if number < 127:
        return bytes([number])
    number -= 127
    rest = bytearray()
    while number >= 128:
        rest.append(number % 128 + 128)
        number //= 128
    return bytes([127, *rest, number])


def head(method: str, *more: tuple[str, str]) -> bytes:
    """Return the head of an RPC."""
    usual = ((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"), ("te", "trailers"))
    return b"".join(field(*pair) for pair in (*usual, ("content-type", "application/grpc"), *more))


def message(data: bytes, length: int | None = None, *, flag: int = 0) -> bytes:
    """Return a message as gRPC frames it; `length` is what it says that it holds, `flag` whether it is compressed."""
    return bytes([flag]) + struct.pack(">I", len(data) if length is None else length) + data


def opening(method: str, stream: int, *more: tuple[str, str]) -> bytes:
    """Return what opens an RPC, its head in as many frames as it needs."""
    block = head(method, *more)
    parts = [block[start : start + FRAME_BYTES] for start in range(0, len(block), FRAME_BYTES)]
    kinds = [HEADERS, *[CONTINUATION] * (len(parts) - 1)]
    flags = [*[0] * (len(parts) - 1), END_HEADERS]
    return b"".join(frame(kind, flag, stream, part) for kind, flag, part in zip(kinds, flags, parts, strict=True))


_OPEN = frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, _WIDEST)) + frame(
    WINDOW_UPDATE, 0, 0, struct.pack(">I", _WIDEST - _FIRST_WINDOW)
)
"""Opens all windows for answers."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one client sends: frames at once, then the bytes of one stream in frames of a size, as windows allow.

    `num_answers` is how many streams are to end before the client goes.
    """

    first: bytes
    body: bytes = b""
    step: int = FRAME_BYTES
    num_answers: int = 1

    @property
    def num_bytes(self) -> int:
        return len(self.first) + len(self.body)

    def run(self, address: tuple[str, int]) -> str:
        """Send it all, and say what came of it: the statuses of the streams, or how the connection ended."""
        pieces = list(self._pieces())
        with closing(socket.create_connection(address)) as connection:
            peer = _Peer(connection, self.num_answers)
            with suppress(ConnectionError, TimeoutError):
                connection.sendall(PREFACE + _OPEN + self.first)
                for size, piece in pieces:
                    if not peer.has_room(size):
                        break
                    connection.sendall(piece)
                while not peer.is_over:
                    peer.read()
        return peer.outcome

    def _pieces(self) -> Iterator[tuple[int, bytes]]:
        """Give the body in pieces of at most a frame's worth, each with the bytes that it takes of the windows."""
        per_piece = max(1, FRAME_BYTES // self.step) * self.step
        for start in range(0, len(self.body), per_piece):
            part = self.body[start : start + per_piece]
            at_end = start + per_piece >= len(self.body)
            parts = [part[at : at + self.step] for at in range(0, len(part), self.step)]
            flags = [*[0] * (len(parts) - 1), END_STREAM if at_end else 0]
            yield len(part), b"".join(frame(DATA, flag, 1, each) for flag, each in zip(flags, parts, strict=True))


class _Peer:
    """The other end: the windows that it opens, and what it answers."""

    def __init__(self, connection: socket.socket, num_answers: int) -> None:
        self._connection = connection
        connection.settimeout(_PATIENCE_S)
        self._left_s = time.monotonic() + _PATIENCE_S
        self._buffer = b""
        self._windows = {0: _FIRST_WINDOW, 1: _FIRST_WINDOW}
        self._num_answers = num_answers
        self.is_over = False
        self.statuses: list[str] = []

    @property
    def outcome(self) -> str:
        kinds = sorted(set(self.statuses))
        return ", ".join(f"{self.statuses.count(each)} x {each}" if self._num_answers > 1 else each for each in kinds)

    def has_room(self, size: int) -> bool:
        """Wait until the windows let so many bytes pass; False if nobody wants them any more."""
        while min(self._windows.values()) < size and not self.is_over:
            self.read()
        for stream in self._windows:
            self._windows[stream] -= size
        return not self.is_over

    def read(self) -> None:
        """Read what there is, at least something."""
        data = b"" if time.monotonic() > self._left_s else self._connection.recv(1 << 16)
        if not data:
            self._end("closed" if time.monotonic() < self._left_s else "no end")
            self.is_over = True
            return
        self._buffer += data
        while len(self._buffer) >= 9 and len(self._buffer) >= 9 + int.from_bytes(self._buffer[:3]):
            end = 9 + int.from_bytes(self._buffer[:3])
            kind, flags, stream = struct.unpack(">BBI", self._buffer[3:9])
            self._take(kind, flags, stream, self._buffer[9:end])
            self._buffer = self._buffer[end:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream in self._windows:
            self._windows[stream] += int.from_bytes(payload)
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == INITIAL_WINDOW_SIZE:
                    self._windows[1] += value - _FIRST_WINDOW
            self._connection.sendall(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._connection.sendall(frame(PING, ACK, 0, payload))
        elif kind == HEADERS and flags & END_STREAM:
            found = _STATUS.search(payload)
            self._end(f"status {found[1].decode()}" if found else "a status")
        elif kind == RST_STREAM:
            self._end("reset")
        elif kind == GOAWAY:
            self._end("GOAWAY")
            self.is_over = True

    def _end(self, how: str) -> None:
        self.statuses.append(how)
        self.is_over = self.is_over or len(self.statuses) >= self._num_answers
