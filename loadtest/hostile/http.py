"""HTTP/1.1 over a raw socket, because messages are broken on purpose: the bytes of one connection, and the answer."""

import socket
from contextlib import closing, suppress
from dataclasses import dataclass

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class RawRequest:
    """All bytes that one client sends before it reads."""

    data: bytes

    @property
    def num_bytes(self) -> int:
        return len(self.data)

    def run(self, address: tuple[str, int]) -> str:
        """Send it, and say what the first answer's status is, or how the connection ended."""
        with closing(socket.create_connection(address, _PATIENCE_S)) as connection:
            with suppress(ConnectionError):
                connection.sendall(self.data)
            try:
                answer = connection.recv(64)
            except TimeoutError:
                return "no answer"
            except ConnectionError:
                return "closed"
        return answer[9:12].decode("latin-1") if answer else "closed"


def post(path: str, body: bytes, kind: str, key: str, *headers: str, method: str = "POST") -> RawRequest:
    """Return a call with a body; the connection ends with it."""
    known = [f"X-API-Key: {key}"] if key else []
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", f"Content-Type: {kind}"]
    return RawRequest("\r\n".join([*lines, *known, *headers, "Connection: close", "", ""]).encode("latin-1") + body)
