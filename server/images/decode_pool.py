"""The threads for work that would hold up the event loop, and the deadlines of the requests that wait for it.

Decoding is limited by its cost, rather than done in processes that can be killed: a process adds its start, a copy of
each image and a pool to manage, and frees nothing that `DecodeLimit` does not. Large images have threads of their own,
so that small images, which most are, never wait behind them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from threading import Event
from typing import TypeVar

from server.errors import DeadlineExceeded, Draining
from server.images.decode import Picture, decode
from server.images.files import kind_of, pixels_of
from server.images.jpeg import KIND as JPEG
from server.images.jpeg import jpeg_pixels
from server.images.limits import DecodeLimit, PixelBudget
from server.models.manifest import Preprocessing
from server.settings import Settings

_SMALL_BYTES = 1 << 20
_SMALL_PIXELS = 4_000_000
"""An image within both limits takes a thread no longer than a third of a second, as far as is known."""
T = TypeVar("T")
ReadBytes = Callable[[], bytes]
"""Returns an image's bytes, in the thread that decodes them."""


class DecodePool:
    """Decodes the images of requests, and runs other short work, in threads. Lifetime: until `close`."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._small = ThreadPoolExecutor(settings.num_threads, thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(settings.num_threads, thread_name_prefix="decode-large")
        self._is_closed = False

    def close(self) -> None:
        """Start nothing more, and end the threads once they have finished what they do now."""
        self._is_closed = True
        for threads in (self._small, self._large):
            threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """Run short work that would hold up the event loop: to parse a large body, or to decompress one.

        Raises: Draining once the pool is closed; what the work raises.
        """
        return await self._run(self._small, work)

    async def _run(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._is_closed:
            raise Draining("the server is shutting down", None, "another server")
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    async def decode(
        self, images: Sequence[ReadBytes], target: Preprocessing, deadline_s: float = inf
    ) -> list[Picture]:
        """Return the pictures of one request's images, in order.

        Decoding that still runs when this returns or raises stops at its next check.
        Units: deadline_s is on the monotonic clock.
        Raises: DeadlineExceeded at the deadline; what `decode` raises for the first image that fails.
        """
        abandoned, budget = Event(), PixelBudget(self._settings.max_request_pixels)
        left_s = None if deadline_s == inf else deadline_s - self._clock()

        def to_picture(data: bytes) -> Picture:
            limit, max_pixels = DecodeLimit(self._settings.max_decode_s, abandoned), self._settings.max_pixels
            return decode(data, target, max_pixels=max_pixels, budget=budget, limit=limit)

        try:
            async with asyncio.timeout(left_s):
                return await asyncio.gather(*[self._decode_one(image, to_picture) for image in images])
        except TimeoutError as error:
            raise DeadlineExceeded("deadline", "images still to be decoded", "time enough for that") from error
        finally:
            abandoned.set()

    async def _decode_one(self, image: ReadBytes, to_picture: Callable[[bytes], Picture]) -> Picture:
        """Decode a small image at once; queue a large one for the threads of large images."""

        def attempt() -> Picture | bytes:
            data = image()
            return to_picture(data) if _is_small(data) else data

        found = await self.run(attempt)
        if isinstance(found, Picture):
            return found
        return await self._run(self._large, partial(to_picture, found))


def _is_small(data: bytes) -> bool:
    """Say whether the header promises a quick decoding. A file that states no size is small: it is refused at once."""
    if len(data) > _SMALL_BYTES:
        return False
    num_pixels = jpeg_pixels(data) if kind_of(data) == JPEG else pixels_of(data)
    return num_pixels is None or num_pixels <= _SMALL_PIXELS
