"""Reading files in a running server: regular files only, of bounded size, and in bounded time.

At a path there may be anything by the time it is read: a FIFO that nobody writes to, a device, a folder, a file that
grows without end, or a network disk that no longer answers. Each is reported as a file that cannot be read, with the
reason, and none delays its reader for longer than the limit.
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
"""Every document of ours is smaller."""
_SLOWEST_BYTES_PER_S = 4_000_000
"""A disk that works is at least as fast."""
_PIECE_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_stuck: set[Hashable] = set()
"""Work that exceeded its time and has not ended yet; the same work is refused meanwhile."""


def read(path: Path, max_bytes: int = DOCUMENT_BYTES) -> bytes:
    """Return the content of a regular file; blocks for `READ_S` at most.

    Raises: OSError, whose `strerror` says why: it is no regular file, too large, or the disk does not answer in time.
    """
    return run_within(READ_S, ("read", path), lambda: _read(path, max_bytes))


def digest(path: Path, size_bytes: int) -> str:
    """Return the SHA-256 of a regular file; blocks for as long as a slow disk takes for a file of that size.

    Raises: OSError, as `read`.
    """
    limit_s = READ_S + size_bytes / _SLOWEST_BYTES_PER_S
    return run_within(limit_s, ("digest", path), lambda: _digest(path, size_bytes))


def status(path: Path) -> os.stat_result:
    """Return the status of whatever is at a path; blocks for `READ_S` at most.

    Raises: OSError.
    """
    return run_within(READ_S, ("status", path), path.stat)


def check_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file.

    Raises: OSError if there is something else, or nothing.
    """
    found = status(path)
    _check_kind(found)
    return found


def run_within(limit_s: float, about: Hashable, work: Callable[[], T]) -> T:
    """Return the result of some work on the disk; blocks for `limit_s` at most.

    The work runs on a thread of its own, which is abandoned at the limit. Until it ends, the same work (`about`) is
    refused at once.
    Raises: TimeoutError, an OSError; what the work raises.
    """
    if about in _stuck:
        raise TimeoutError(errno.ETIMEDOUT, "no answer of the disk, and none yet to an earlier look")
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
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


def os_error_text(error: Exception) -> str:
    """Return the message of the operating system."""
    return getattr(error, "strerror", None) or str(error)


def _start(run: Callable[[], None]) -> None:
    try:
        threading.Thread(target=run, name="disk", daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "the system gives no more threads") from error


def _open(path: Path) -> int:
    """Open a regular file without waiting for a writer, as opening a FIFO would; return its descriptor."""
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
    _check_kind(path.stat())  # merely opening a device may have effects
    with open(_open(path), "rb") as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it holds more than {max_bytes} bytes")
    return content


def _digest(path: Path, size_bytes: int) -> str:
    """Hash a file up to its known size: a file that grows meanwhile could be endless."""
    _check_kind(path.stat())
    sha256, left_bytes = hashlib.sha256(), size_bytes + 1
    with open(_open(path), "rb") as stream:
        while left_bytes > 0 and (piece := stream.read(min(_PIECE_BYTES, left_bytes))):
            sha256.update(piece)
            left_bytes -= len(piece)
    return sha256.hexdigest()
