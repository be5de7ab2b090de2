"""Limits the metadata of one RPC, where gRPC's own limit does not hold.

gRPC checks its limit for each frame of a head, not for the whole. So a client can send any number of entries in
separate frames, and building 200,000 of them in Python takes the event loop a quarter of a second before any handler
runs. This module counts the entries as they are built, and raises at the limit. gRPC then ends the RPC as UNKNOWN with
our message, and would log a traceback each time: that log line is dropped.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc

from server.errors import HeadTooLarge

ENTRY_BYTES = 32
"""What an entry counts beside its text, as in HTTP/2."""
_ENTRY_CLASS = "_Metadatum"


class MetadataLimit:
    """Builds the entries of metadata, and counts those of one head: a task builds a whole head without a pause."""

    def __init__(self, max_entries: int, make: Callable[[str, str | bytes], Any]) -> None:
        self._max_entries = max_entries
        self.make = make
        self._task: asyncio.Task[Any] | None = None
        self._count = 0

    def __call__(self, key: str, value: str | bytes) -> Any:
        """Return an entry.

        Raises: HeadTooLarge for one entry too many.
        """
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a thread without an event loop
            return self.make(key, value)
        if task is not self._task:
            if self._task is None:
                asyncio.get_running_loop().call_soon(self._forget)
            self._task, self._count = task, 0
        self._count += 1
        if task is not None and self._count > self._max_entries:
            got, expected = f"more than {self._max_entries} entries", f"at most {self._max_entries}"
            raise HeadTooLarge("metadata", got, expected)
        return self.make(key, value)

    def _forget(self) -> None:
        self._task = None


def limit_metadata(max_header_bytes: int) -> None:
    """Limit the metadata of every RPC of this process to the entries that fit into a head of this size."""
    made = getattr(cygrpc, _ENTRY_CLASS)
    make = made.make if isinstance(made, MetadataLimit) else made
    setattr(cygrpc, _ENTRY_CLASS, MetadataLimit(max_header_bytes // ENTRY_BYTES, make))
    logging.getLogger(cygrpc.__name__).addFilter(_is_other_failure)


def _is_other_failure(record: logging.LogRecord) -> bool:
    """Say whether a log line is about anything but a head that is too large."""
    error = record.exc_info[1] if record.exc_info else None
    while error is not None and not isinstance(error, HeadTooLarge):
        error = error.__context__
    return error is None
