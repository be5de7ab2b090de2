"""A bound on the metadata of one RPC, where gRPC's own does not hold.

gRPC holds its limit against each frame of a head, not against the whole: a stranger can send any number of entries in
frames of their own, and building 200,000 of them in Python takes the event loop a quarter of a second before any
handler sees the RPC. So this counts them as they are built, and stops. gRPC ends the RPC as UNKNOWN then, with our
message, and would log a traceback each time.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc

from server.errors import HeadTooLarge

ENTRY_BYTES = 32
"""What an entry counts as beside its text, as HTTP/2 has it."""
_PLACE = "_Metadatum"


class MetadataLimit:
    """Makes the entries of metadata, of one head at a time: a task builds all of it without a pause."""

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
    """Let no RPC of this process bring more entries than fit into a head of a size."""
    made = getattr(cygrpc, _PLACE)
    make = made.make if isinstance(made, MetadataLimit) else made
    setattr(cygrpc, _PLACE, MetadataLimit(max_header_bytes // ENTRY_BYTES, make))
    logging.getLogger(cygrpc.__name__).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a line is about anything but heads too large, or what becomes of their streams."""
    error = record.exc_info[1] if record.exc_info else None
    while error is not None and not isinstance(error, HeadTooLarge):
        error = error.__context__
    return error is None
