"""Files that a running server reads: regular ones, of bounded size, and within a time.

What stands at a path may be anything by the time it is read: a FIFO that nobody writes to, a device, a folder, a file
that grows without end, a disk elsewhere that answers no more. Each is a file that cannot be read, with a reason, and
holds nobody up for longer than a moment.
"""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

READ_S = 5.0
"""How long the disk may take for a small file."""
DOCUMENT_BYTES = 16 * 1024 * 1024
"""More than any document of ours has."""
_SLOWEST_BYTES_PER_S = 4_000_000
"""What a disk that works gives at least."""
_PIECE_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_stuck: set[Hashable] = set()
"""What has not come back in its time, and not yet: it is not waited for twice."""


def read(path: Path, max_bytes: int = DOCUMENT_BYTES) -> bytes:
    """Return what a regular file holds; blocks, for `READ_S` at most.

    Raises: OSError, whose `strerror` says what is wrong: it is something else, too large, or does not come in time.
    """
    return within(READ_S, ("read", path), lambda: _read(path, max_bytes))


def digest(path: Path, size_bytes: int) -> str:
    """Return the SHA-256 of a regular file; blocks, for as long as a slow disk takes for one of that size.

    Raises: OSError, as `read`.
    """
    limit_s = READ_S + size_bytes / _SLOWEST_BYTES_PER_S
    return within(limit_s, ("digest", path), lambda: _digest(path, size_bytes))


def status(path: Path) -> os.stat_result:
    """Return what the system says of whatever is at a path; blocks, for `READ_S` at most.

    Raises: OSError.
    """
    return within(READ_S, ("status", path), path.stat)


def check_regular(path: Path) -> os.stat_result:
    """Return what the system says of a regular file.

    Raises: OSError where there is something else, or nothing.
    """
    found = status(path)
    _check_kind(found)
    return found


def within(limit_s: float, about: Hashable, work: Callable[[], T]) -> T:
    """Return what some work on the disk comes to; blocks, for so long at most.

    It runs in a thread that nobody waits for when it never ends; while it has not, the same is refused at once.
    Raises: TimeoutError, an OSError; what the work raises.
    """
    if about in _stuck:
        raise TimeoutError(errno.ETIMEDOUT, "no answer of the disk, and none yet to an earlier look")
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            future.set_exception(error)
        finally:
            _stuck.discard(about)

    _start(run)
    try:
        return future.result(limit_s)
    except TimeoutError:
        if future.done():
            raise  # the work's own
        _stuck.add(about)
        if future.done():
            _stuck.discard(about)
        raise TimeoutError(errno.ETIMEDOUT, f"no answer of the disk in {limit_s:g} s") from None


def _start(run: Callable[[], None]) -> None:
    try:
        threading.Thread(target=run, name="disk", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "the system gives no more threads") from error


def _open(path: Path) -> int:
    """Open a regular file, and nothing that would wait for a writer; return its descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _check_kind(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, no regular file")


def _read(path: Path, max_bytes: int) -> bytes:
    _check_kind(path.stat())  # opening a device may do things
    with open(_open(path), "rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it holds more than {max_bytes} bytes")
    return content


def _digest(path: Path, size_bytes: int) -> str:
    """Hash a file up to its size: one that grows meanwhile is another file, and never ends."""
    _check_kind(path.stat())
    sha256, left_bytes = hashlib.sha256(), size_bytes + 1
    with open(_open(path), "rb") as stream:
        while left_bytes > 0 and (piece := stream.read(min(_PIECE_BYTES, left_bytes))):
            sha256.update(piece)
            left_bytes -= len(piece)
    return sha256.hexdigest()
