"""How long a decoding thread may go on: Python cannot stop a thread, but a decoder has to read its file.

Pillow reads a file piece by piece, so whoever hands out the pieces can end the decoding between two of them.
"""

import time
from collections.abc import Sequence
from io import BytesIO
from math import inf
from threading import Event
from typing import Self

from server.errors import Cancelled, PayloadTooLarge

MAX_READS = 1 << 18
"""Pieces of a file that Pillow takes in Python, each with its own objects; an honest file has some thousands."""
_LOOK_EVERY, _SHORT_BYTES = 64, 1024
"""The clock is dearer than reading a byte or two."""


class DecodeLimit:
    """Ends one image's decoding when it has cost too much, or when nobody waits for it any more.

    Units: seconds of the processor's time in the thread that calls `check`, so that a busy machine refuses nothing.
    """

    def __init__(self, max_s: float = inf, abandoned: Event | None = None) -> None:
        self._max_s = max_s
        self._abandoned = abandoned
        self._began_s: float | None = None

    def __enter__(self) -> Self:
        """Begin to count, in the present thread."""
        self._began_s = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._began_s = None

    def check(self) -> None:
        """Return if decoding may go on.

        Raises: Cancelled, PayloadTooLarge.
        """
        if self._abandoned is not None and self._abandoned.is_set():
            raise Cancelled("decoding an image", "nobody who waits for it", "a caller")
        if self._began_s is not None and time.thread_time() - self._began_s > self._max_s:
            raise PayloadTooLarge(
                "decoding the image takes too long", f"more than {self._max_s:g} s", f"at most {self._max_s:g} s"
            )


class Feed(BytesIO):
    """An image file in memory that asks its leash as it is read, and never reads across one of its stops.

    Shapes: `stops` are rising offsets, and a decoder that reads with one call as far as it can still comes by at each.
    """

    def __init__(self, content: bytes, leash: DecodeLimit, stops: Sequence[int] = ()) -> None:
        super().__init__(content)
        self._leash = leash
        self._stops = list(stops)
        self._next = 0
        self._reads = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._next = 0
        return super().seek(offset, whence)

    def read(self, size: int | None = -1) -> bytes:
        """Read as of any file, at most up to the next stop.

        Raises: Cancelled, PayloadTooLarge.
        """
        if self._reads % _LOOK_EVERY == 0 or size is None or not 0 <= size < _SHORT_BYTES:
            self._leash.check()
        self._reads += 1
        if self._reads > MAX_READS:
            raise PayloadTooLarge("pieces of the image file", f"more than {MAX_READS}", f"at most {MAX_READS}")
        if self._stops and size is not None and size > 0:
            here = self.tell()
            while self._next < len(self._stops) and self._stops[self._next] <= here:
                self._next += 1
            if self._next < len(self._stops):
                size = min(size, self._stops[self._next] - here)
        return super().read(size)
