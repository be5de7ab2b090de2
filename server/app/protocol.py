"""The wire below the application: what no HTTP library knows of errors, and of callers that close their side.

A caller that has sent all it will send may close its side of the connection and still wait for its answer (a half
close); one that has gone closes both. Both look the same to the socket, an end of what can be read, until something is
written: only a peer that has gone answers that with a reset. So an interim response, which every HTTP/1.1 client has
to skip, asks the question.
"""

import asyncio
import json
import socket

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.wire import DEPARTURE, Departure

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIRST_LOOK_S = 0.005
_LAST_LOOK_S = 0.5
"""How long until the first and between the last looks at whether a reset came; each wait is twice the one before."""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with JSON for requests it cannot parse, and answers for callers that have half closed."""

    _look: asyncio.TimerHandle | None = None
    _departure: Departure
    """Tells the calls of this connection, so that none needs a task that waits for it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._departure = Departure()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[DEPARTURE] = self._departure  # type: ignore[literal-required]

    def send_400_response(self, msg: str) -> None:
        self._refuse(f"{msg.rstrip('.')}; expected HTTP/1.1")

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads the answer, uvicorn gives none
        """Say whether the connection stays open for an answer, now that the caller sends no more."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        if cycle.more_body:
            if not (cycle.response_started or self.pipeline):
                self._refuse("the request's body; got its end too early; expected all that its head announced")
            return False
        cycle.keep_alive = False
        # HTTP/1.0 has no interim responses, and none may come between the parts of a reply.
        if cycle.scope["http_version"] == "1.1" and not (cycle.response_started or self.pipeline):
            self.transport.write(_INTERIM)
            self._look_later(_FIRST_LOOK_S)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)
        self._departure.happen()

    def _look_later(self, delay_s: float) -> None:
        self._look = self.loop.call_later(delay_s, self._look_for_reset, delay_s)

    def _look_for_reset(self, delay_s: float) -> None:
        """Hang up if the caller has; nobody tells, for nothing is read from a connection after its end."""
        if self.cycle.response_complete or self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self._look_later(min(2 * delay_s, _LAST_LOOK_S))

    def _refuse(self, error: str) -> None:
        body = json.dumps({"error": error}).encode("ascii")
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
