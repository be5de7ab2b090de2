"""Limits the gRPC connections of each client, and closes those beyond the limit.

gRPC limits all connections together, and has no event for a new one, so this reads the sockets of the process. It reads
each through a copy of its descriptor: then the socket that is checked is the one that is closed, even if its number is
reused meanwhile.
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
"""How often sockets are checked, and so how long a connection beyond the limit may stay."""
_DESCRIPTORS = Path("/proc/self/fd")
Peer = tuple[Any, ...]
"""A client's address and port, and the other fields of its address family."""


class ConnectionCounter:
    """Counts the connections to one port of this process, and closes those beyond the limit."""

    def __init__(self, port: int, max_per_client: float) -> None:
        self._port = port
        self._max_per_client = max_per_client
        self._known: list[Peer] = []
        """In the order in which they were first seen: the last ones are closed first."""

    async def sweep_in_thread(self, ended: Callable[[int], object]) -> None:
        """Run `sweep` once in a thread, and report how many connections it closed."""
        ended(await asyncio.to_thread(self.sweep))

    def sweep(self) -> int:
        """Close the connections beyond the limit; return their number."""
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
    """Yield each connection to a port of ours, valid until the next one, and its peer."""
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
