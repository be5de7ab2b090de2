"""HTTP/1.1 on one connection: uvicorn's protocol, with our errors, limits and half-closed connections.

A client that has sent all it will send may close its side of the connection and still wait for its answer (a half
close). A client that has gone closes both sides. The socket shows the same in both cases, an end of input, until the
server writes: only a client that has gone answers that with a reset. So the server writes an interim response, which
every HTTP/1.1 client has to skip: 102 says that the request is being processed.

The protocol also knows the stage of each request, for `ConnectionLimiter`, and checks the size and form of heads.
"""

import asyncio
import json
import socket
from asyncio import BaseTransport
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.errors import BadRequest, HeadTooLarge, ServeError, status_of
from server.http.arrivals import ArrivalEstimator
from server.http.connection_limits import MAX_PIPELINED, ConnectionLimiter, ConnectionStage
from server.http.exchange import ARRIVAL, CLIENT_DISCONNECT, ClientDisconnect
from server.http.request_head import check_head

_INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
_AROUND_HEADER_BYTES = len(": \r\n")
MAX_CHUNKS = 8192
"""How many chunks of a body may come in one read of up to 256 KiB: each costs microseconds, however small it is."""
_FIRST_CHECK_S = 0.005
_LAST_CHECK_S = 0.5
"""How long until the first check for a reset, and between the last ones; each wait is twice the one before."""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with JSON errors for requests that it cannot parse, and answers after a half close."""

    _check: asyncio.TimerHandle | None = None
    _client_disconnect: ClientDisconnect
    """Shared by all requests of this connection, so that none needs a task that waits for the disconnect."""
    _is_head_open = False
    _num_head_bytes = 0
    """Of the request line, the headers and the trailers that belong to them."""
    _num_held_bytes = 0
    """Bytes given to the parser since its last callback: it may be holding all of them."""
    _num_chunks = 0
    _answering: RequestResponseCycle | None = None
    _refusal: ServeError | None = None

    def __init__(
        self, *arguments: Any, connection_limiter: ConnectionLimiter, arrivals: ArrivalEstimator, **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._arrivals = arrivals
        self._connection_limiter = connection_limiter
        self._client = ""
        self.since_s = self.loop.time()

    @property
    def stage(self) -> ConnectionStage:
        """Return what the connection is waiting for."""
        if self.flow.write_paused:
            return ConnectionStage.REPLY
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            return ConnectionStage.BODY if cycle.more_body else ConnectionStage.ANSWER
        return ConnectionStage.HEAD if self._is_head_open else ConnectionStage.IDLE

    def close_after_answer(self) -> None:
        """Close the connection after the present answer, if one is being computed."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False

    def end(self, error: ServeError | None) -> None:
        """Close the connection; send the error first, if there is one and no answer has begun."""
        cycle: RequestResponseCycle | None = self.cycle
        if error is not None and (cycle is None or cycle.response_complete or not cycle.response_started):
            self._refuse(error)
        elif self.transport.get_write_buffer_size() > 0:
            self.transport.abort()  # closing would wait until the client reads what it does not read
        else:
            self.transport.close()

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._client_disconnect = ClientDisconnect()
        self._client = self.client[0] if self.client else ""
        refusal = self._connection_limiter.add(self._client)
        if refusal is not None:
            self._refuse(refusal)

    def data_received(self, data: bytes) -> None:
        """Give the parser pieces no larger than a head may be, and count what it holds after each piece."""
        self._unset_keepalive_if_required()
        self._num_chunks = 0
        piece_bytes = self._connection_limiter.max_header_bytes
        view = data if len(data) <= piece_bytes else memoryview(data)
        for start in range(0, len(data), piece_bytes):
            if self.transport.is_closing():
                return
            self._feed(view[start : start + piece_bytes])

    def _feed(self, piece: bytes | memoryview) -> None:
        self._num_held_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserError:
            refusal, self._refusal = self._refusal, None
            self._refuse(refusal or BadRequest("Invalid HTTP request received", None, "HTTP/1.1"))
        except httptools.HttpParserUpgrade:
            return  # the request is answered as an ordinary one, and then the connection is closed
        if self._num_held_bytes > self._connection_limiter.max_header_bytes and not self.transport.is_closing():
            self._refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[CLIENT_DISCONNECT] = self._client_disconnect  # type: ignore[literal-required]
        self._is_head_open, self._num_head_bytes, self._num_held_bytes = True, 0, 0
        if self.stage is ConnectionStage.HEAD:
            self.since_s = self.loop.time()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refusal = BadRequest("pipelined requests", len(self.pipeline) + 1, f"at most {MAX_PIPELINED} at once")
            raise self._refusal

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, and drop a trailer: what comes after the body must not change the headers."""
        if self._is_head_open:
            super().on_header(name, value)
        self._count(len(name) + len(value) + _AROUND_HEADER_BYTES)

    def on_headers_complete(self) -> None:
        version, is_upgrade = self.parser.get_http_version(), self.parser.should_upgrade()
        try:
            check_head(version, self.url, self.headers, is_upgrade=is_upgrade)
        except ServeError as error:
            self._refusal = error
            raise
        self.expect_100_continue = self.expect_100_continue and version != "1.0"
        self.scope[ARRIVAL] = self._arrivals.estimate()  # type: ignore[literal-required]
        super().on_headers_complete()
        self._is_head_open = False
        self.since_s = self.loop.time()
        if self._connection_limiter.is_draining or is_upgrade:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._num_held_bytes = 0
        self._num_chunks += 1
        self.cycle.waiting_for_100_continue = False  # the client did not wait for `100 Continue`
        if self._num_chunks <= MAX_CHUNKS:
            super().on_body(body)
        elif self._num_chunks == MAX_CHUNKS + 1:
            self.end(BadRequest("chunks of the body at once", self._num_chunks, f"at most {MAX_CHUNKS}, larger ones"))

    def on_message_complete(self) -> None:
        self._num_held_bytes = 0
        self.cycle.waiting_for_100_continue = False
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.since_s = self.loop.time()

    def on_response_complete(self) -> None:
        self.since_s = self.loop.time()
        super().on_response_complete()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio reads the answer, uvicorn gives none
        """Say whether the connection stays open for an answer, now that the client sends no more."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        if cycle.more_body:
            if not (cycle.response_started or self.pipeline):
                got = "its end too early"
                self._refuse(BadRequest("the request's body", got, "all that its head announced"))
            return False
        if self.scheme == "https":
            return False  # asyncio ends a TLS connection with its first end
        cycle.keep_alive = False
        # HTTP/1.0 has no interim responses, and none may come between the parts of a reply.
        if cycle.scope["http_version"] == "1.1" and not (cycle.response_started or self.pipeline):
            self.transport.write(_INTERIM)
            self._check_later(_FIRST_CHECK_S)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self._check is not None:
            self._check.cancel()
        self._connection_limiter.remove(self._client)
        super().connection_lost(exc)
        self._client_disconnect.happen()

    def _check_later(self, delay_s: float) -> None:
        self._check = self.loop.call_later(delay_s, self._check_for_reset, delay_s)

    def _check_for_reset(self, delay_s: float) -> None:
        """Close the connection if the client has reset it: no event says so after the end of input."""
        if self.cycle.response_complete or self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self._check_later(min(2 * delay_s, _LAST_CHECK_S))

    def _count(self, num_bytes: int) -> None:
        """Add to the head's size, and stop the parser once it is too large."""
        self._num_held_bytes = 0
        self._num_head_bytes += num_bytes
        if self._num_head_bytes > self._connection_limiter.max_header_bytes:
            self._refusal = self._head_too_large()
            raise self._refusal

    def _head_too_large(self) -> HeadTooLarge:
        limit = self._connection_limiter.max_header_bytes
        return HeadTooLarge("the request line and headers", f"more than {limit} bytes", f"at most {limit} bytes")

    def _refuse(self, error: ServeError) -> None:
        """Send an error and close the connection; only close it where another answer is half sent."""
        if isinstance(error, HeadTooLarge):
            self._connection_limiter.count_ended(error.reason)
        answering = self._answering
        if answering is not None and answering.response_started and not answering.response_complete:
            self.transport.close()
            return
        body = json.dumps({"error": str(error)}).encode("ascii")
        status = HTTPStatus(status_of(error))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
