"""Limits what one image and one request may cost: pixels, passes over them, processor time, reads of the file.

Pixels and passes are checked from the header and the structure of the file. Python cannot stop a thread, but Pillow
reads a file piece by piece, so `LimitedFile` can end a decoding between two pieces.
"""

import time
from collections.abc import Sequence
from io import BytesIO
from math import inf
from threading import Event, Lock
from typing import Self

from server.errors import Cancelled, NotAnImage, PayloadTooLarge

_MAX_SIDE = 65_535
"""As in a JPEG. To shrink a longer row takes gigabytes for its weights, and holds the interpreter lock."""
_MAX_SCANS = 100
"""An encoder writes about ten. Each scan passes over the whole image, however few bytes it has, so a file with many
scans could occupy a thread for an hour."""
_MAX_PASSES = 32
"""So many passes over the largest image take a second and a half; an encoder of four colours needs 24."""
MAX_READS = 1 << 18
"""Reads of a file that Pillow makes from Python, each with its own objects; an ordinary file needs some thousands."""
_CHECK_EVERY, _SHORT_BYTES = 64, 1024
"""Reads of fewer than `_SHORT_BYTES` are checked only once in `_CHECK_EVERY`: the clock costs more than such a read."""


class PixelBudget:
    """The pixels that the images of one request may have together. Any thread may spend from it."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._spent = 0
        self._lock = Lock()

    def spend(self, num_pixels: int) -> None:
        """Count pixels; raise PayloadTooLarge once there are more than allowed."""
        with self._lock:
            self._spent += num_pixels
            if self._spent > self._max_pixels:
                raise PayloadTooLarge("pixels of the request's images", self._spent, f"at most {self._max_pixels}")


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise PayloadTooLarge for more pixels than that, NotAnImage for none."""
    size = f"{width} x {height}"
    if width * height > max_pixels:
        raise PayloadTooLarge("the image has too many pixels", size, f"at most {max_pixels} in all")
    if max(width, height) > _MAX_SIDE:
        raise PayloadTooLarge("the image is too long", size, f"sides of at most {_MAX_SIDE}")
    if width * height == 0:
        raise NotAnImage("the image has no pixels", size, "at least 1 x 1")


def check_scans(num_scans: int) -> None:
    """Raise PayloadTooLarge for a JPEG picture of very many scans."""
    if num_scans > _MAX_SCANS:
        raise PayloadTooLarge("scans of the JPEG image", num_scans, f"at most {_MAX_SCANS}")


def check_passes(num_samples: int, max_pixels: int) -> None:
    """Raise PayloadTooLarge for a JPEG picture whose scans together pass over that many samples of it."""
    if num_samples > _MAX_PASSES * max_pixels:
        limit = f"at most {_MAX_PASSES * max_pixels}"
        raise PayloadTooLarge("samples that the scans of the JPEG image pass over", num_samples, limit)


class DecodeLimit:
    """Ends one image's decoding when it has taken too long, or when its request has ended.

    Units: seconds of processor time of the thread that calls `check`, so that a busy machine refuses nothing.
    """

    def __init__(self, max_s: float = inf, abandoned: Event | None = None) -> None:
        self._max_s = max_s
        self._abandoned = abandoned
        self._began_s: float | None = None

    def __enter__(self) -> Self:
        """Start to measure, in the present thread."""
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


class LimitedFile(BytesIO):
    """An image file in memory that checks its limit as it is read, and never reads across one of its stops.

    Shapes: `stops` are rising offsets. A decoder that reads all it can in one call still makes one call for each.
    """

    def __init__(self, content: bytes, limit: DecodeLimit, stops: Sequence[int] = ()) -> None:
        super().__init__(content)
        self._limit = limit
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
        if self._reads % _CHECK_EVERY == 0 or size is None or not 0 <= size < _SHORT_BYTES:
            self._limit.check()
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
