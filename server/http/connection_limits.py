"""Limits the number of connections, and the time that each stage of a request may take.

    head   from the first byte to the end of the headers
    body   from there to the end of the body
    answer while the server computes the answer: without a limit here
    reply  while bytes wait to be sent because the client does not read them
    idle   until the next request begins, or the first one

A connection only stores when its present stage began. One timer checks all of them, so that a request costs nothing.
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
"""How often connections are checked: one may exceed its limit by as much."""
RETRY_S = 1.0
MAX_PIPELINED = 64
"""Requests of one connection that may wait for the answers before theirs; no client needs more."""


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
"""The reason for ending a connection whose stage lasts too long; the stage `answer` has no limit."""
REASONS = (*SLOW.values(), TooManyConnections.reason, HeadTooLarge.reason)


class Connection(Protocol):
    """What the limiter reads and ends: one client's connection."""

    since_s: float
    """When its present stage began."""

    @property
    def stage(self) -> ConnectionStage: ...

    def close_after_answer(self) -> None:
        """Close the connection after the present answer, if one is being computed."""
        ...

    def end(self, error: ServeError | None) -> None:
        """Close the connection; send the error first, if there is one and no answer has begun."""
        ...


class ConnectionLimiter:
    """Counts the connections of each client, and ends those that take too long. It belongs to one event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.max_header_bytes = settings.max_header_bytes
        self.is_draining = False
        """While true, each connection closes after its present answer."""
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

    def add(self, client: str) -> TooManyConnections | None:
        """Count a new connection; return why it is refused, or None. `remove` has to follow in either case."""
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
        self.count_ended(refusal.reason)
        return refusal

    def remove(self, client: str) -> None:
        """Count a connection as closed."""
        self._num_open -= 1
        self._clients[client] -= 1
        if self._clients[client] == 0:
            del self._clients[client]

    def count_ended(self, reason: str) -> None:
        """Count a connection that the server ended."""
        self._ended.add(1, reason)

    def watch(self, connections: Iterable[Connection]) -> None:
        """Begin to check these connections periodically."""
        self._connections = connections
        self._sweeping.start()

    def drain(self) -> None:
        """Close each connection after its present answer, from now on."""
        self.is_draining = True
        for connection in self._connections:
            connection.close_after_answer()

    async def stop(self) -> None:
        """Stop the periodic check."""
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
        self.count_ended(SLOW[stage])
        is_answered = stage in {ConnectionStage.HEAD, ConnectionStage.BODY}
        error = TooSlow(f"the request's {stage}", f"no end of it after {limit_s:g} s", "all of it by then")
        connection.end(error if is_answered else None)
