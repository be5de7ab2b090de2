"""How many gRPC connections each client holds; what one holds beyond its limit is closed.

gRPC bounds its connections all together and tells nobody of them, so this looks at the sockets of the process. Each is
looked at through a copy of its descriptor: what is judged is then what is closed, whatever the number comes to mean.
"""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

SWEEP_S = 0.5
"""How often, and so how long one connection too many may stay."""
_DESCRIPTORS = Path("/proc/self/fd")
Peer = tuple[Any, ...]
"""A client's address and port, and what else its family has."""


class ConnectionCounter:
    """Counts the connections to one port of this process."""

    def __init__(self, port: int, max_per_client: float) -> None:
        self._port = port
        self._max_per_client = max_per_client
        self._known: list[Peer] = []
        """By when they were first seen: who comes last goes first."""

    async def look(self, ended: Callable[[int], object]) -> None:
        """Look once, in a thread, and say how many were closed."""
        ended(await asyncio.to_thread(self.sweep))

    def sweep(self) -> int:
        """Close the connections that are too many; return their number."""
        found = {peer for _, peer in _connections(self._port)}
        known = [peer for peer in self._known if peer in found]
        self._known = known + sorted(found.difference(known))
        excess = set(self._excess())
        if excess:
            self._close(excess)
        return len(excess)

    def _close(self, excess: set[Peer]) -> None:
        for connection, peer in _connections(self._port):
            if peer in excess:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _excess(self) -> Iterator[Peer]:
        count: Counter[str] = Counter()
        for peer in self._known:
            count[peer[0]] += 1
            if count[peer[0]] > self._max_per_client:
                yield peer


def _connections(port: int) -> Iterator[tuple[socket.socket, Peer]]:
    """Give each connection to a port of ours, valid until the next one, and who is at its other end."""
    for place in list(_DESCRIPTORS.iterdir()):
        with suppress(OSError), closing(_copy(int(place.name))) as copy:  # no socket, not connected, or gone meanwhile
            if copy.family in {socket.AF_INET, socket.AF_INET6} and copy.getsockname()[1] == port:
                yield copy, copy.getpeername()


def _copy(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
