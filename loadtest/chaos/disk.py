"""A small disk for one server, which can be filled and emptied while the server runs.

A file system in memory, mounted where only the server sees it: a full one is full for real. That takes no root, but a
system that allows user namespaces, as most do outside of containers.
"""

import errno
import os
import shlex
import subprocess
from pathlib import Path

from loadtest.process import Server

_CHUNK = b"x" * 4096
_ENTER = ["unshare", "--user", "--map-root-user", "--mount"]
_MOUNT = 'mount -t tmpfs -o size={size} none "$0" && cp -R "$1"/. "$0" && shift && exec "$@"'


def can_mount() -> bool:
    """Say whether the system lets us."""
    command = [*_ENTER, "sh", "-c", "mount -t tmpfs none /tmp"]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class SmallDisk:
    """A disk that begins with the files of `source`, at `folder` to the server that `command` starts."""

    def __init__(self, folder: Path, source: Path, size_bytes: int) -> None:
        self.folder, self._source, self._size_bytes = folder, source, size_bytes
        self._root = Path("/")

    def command(self, server: str) -> str:
        """Return what starts the server with the disk mounted."""
        mount = _MOUNT.format(size=self._size_bytes)
        return shlex.join([*_ENTER, "sh", "-c", mount, str(self.folder), str(self._source), *shlex.split(server)])

    def reach(self, server: Server) -> Path:
        """Return the disk's folder as it is reached from outside of the server."""
        self._root = Path(f"/proc/{server.pid}/root") / self.folder.relative_to("/")
        return self._root

    def fill(self) -> int:
        """Write until nothing fits any more; return how many bytes did."""
        num_bytes = 0
        with (self._root / "junk").open("wb", buffering=0) as junk:
            while True:
                try:
                    num_bytes += junk.write(_CHUNK)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return num_bytes

    def spare(self, num_bytes: int) -> None:
        """Make a little room."""
        junk = self._root / "junk"
        os.truncate(junk, junk.stat().st_size - num_bytes)

    def empty(self) -> None:
        """Take away what filled it."""
        (self._root / "junk").unlink()
