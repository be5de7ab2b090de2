"""Who may hold a connection, how long each part of a request may take, and what ends the others.

    head   from the first byte to the end of the headers
    body   from there to the end of the body
    answer the server's own turn: never timed here
    reply  while the caller does not take what waits to be sent
    idle   until the next request begins, or the first

Connections only note when their present stage began; one timer looks at all of them, so that a request costs nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from server.errors import HeadTooLarge, ServeError, TooManyConnections, TooSlow
from server.metrics import Metrics
from server.process.background_tasks import BackgroundTask
from server.settings import Settings

SWEEP_S = 0.5
"""How often connections are looked at, and so how late one may be ended."""
RETRY_S = 1.0
MAX_PIPELINED = 64
"""Requests of one connection that may wait behind one another; no caller has a use for more."""


class ConnectionStage(StrEnum):
    HEAD = "head"
    BODY = "body"
    ANSWER = "answer"
    REPLY = "reply"
    IDLE = "idle"


SLOW: dict[ConnectionStage, str] = {
    ConnectionStage.HEAD: "slow_head",
    ConnectionStage.BODY: "slow_body",
    ConnectionStage.REPLY: "slow_reply",
    ConnectionStage.IDLE: "idle",
}
"""Why a connection is ended whose stage lasts too long; an answer takes as long as it takes."""
REASONS = (*SLOW.values(), TooManyConnections.reason, HeadTooLarge.reason)


class Connection(Protocol):
    """What is looked at."""

    since_s: float
    """When its present stage began."""

    @property
    def stage(self) -> ConnectionStage: ...

    def close_after_answer(self) -> None:
        """Have the answer that is waited for, if there is one, be the last."""
        ...

    def end(self, error: ServeError | None) -> None:
        """Hang up; with an error, say why first if nothing was said yet."""
        ...


class ConnectionLimiter:
    """Counts the connections of each client and ends those that take too long. All of it on one event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.max_header_bytes = settings.max_header_bytes
        self.is_draining = False
        """Set, it lets callers go after the answer that they wait for."""
        self._max_open = settings.max_connections
        self._max_per_client = settings.max_connections_per_client
        self._ended = metrics.connections_ended
        self._ended.declare((reason,) for reason in REASONS)
        self._num_open = 0
        self._clients: Counter[str] = Counter()
        self._limits_s = {
            ConnectionStage.HEAD: settings.header_timeout_s,
            ConnectionStage.BODY: settings.body_timeout_s,
            ConnectionStage.REPLY: settings.body_timeout_s,
            ConnectionStage.IDLE: settings.idle_timeout_s,
        }
        self._connections: Iterable[Connection] = ()
        self._sweeping = BackgroundTask("connections", self._sweep, SWEEP_S, metrics)
        metrics.connections.watch(lambda: self._num_open)

    def arrived(self, client: str) -> TooManyConnections | None:
        """Count a connection, and return why it may not stay; either way `left` has to follow."""
        self._num_open += 1
        self._clients[client] += 1
        if self._num_open > self._max_open:
            refusal = TooManyConnections(
                "open connections", self._num_open, f"at most {self._max_open}", retry_after_s=RETRY_S
            )
        elif self._clients[client] > self._max_per_client:
            expected = f"at most {self._max_per_client} a client"
            refusal = TooManyConnections(
                "open connections of this client", self._clients[client], expected, retry_after_s=RETRY_S
            )
        else:
            return None
        self.ended(refusal.reason)
        return refusal

    def left(self, client: str) -> None:
        """Uncount a connection."""
        self._num_open -= 1
        self._clients[client] -= 1
        if self._clients[client] == 0:
            del self._clients[client]

    def ended(self, reason: str) -> None:
        """Count a connection that the server ended."""
        self._ended.add(1, reason)

    def watch(self, connections: Iterable[Connection]) -> None:
        """Begin to look at these connections, again and again."""
        self._connections = connections
        self._sweeping.start()

    def drain(self) -> None:
        """Let callers go after the answer that they wait for, those whose request came before as well."""
        self.is_draining = True
        for connection in self._connections:
            connection.close_after_answer()

    async def stop(self) -> None:
        """Look no more."""
        await self._sweeping.stop()

    async def _sweep(self) -> None:
        self.sweep(self._connections, asyncio.get_running_loop().time())

    def sweep(self, connections: Iterable[Connection], now: float) -> None:
        """End the connections whose stage has lasted too long."""
        for connection in list(connections):
            limit_s = self._limits_s.get(connection.stage)
            if limit_s is not None and now - connection.since_s > limit_s:
                self._end(connection, connection.stage, limit_s)

    def _end(self, connection: Connection, stage: ConnectionStage, limit_s: float) -> None:
        self.ended(SLOW[stage])
        is_told = stage in {ConnectionStage.HEAD, ConnectionStage.BODY}
        error = TooSlow(f"the request's {stage}", f"no end of it after {limit_s:g} s", "all of it by then")
        connection.end(error if is_told else None)
