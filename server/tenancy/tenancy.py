"""The tenants of a running server: read from their file, and again whenever it changes."""

import asyncio
import contextlib
import logging
from pathlib import Path

from server.settings import Settings
from server.tenancy.access import Access
from server.tenancy.keys import KeyRing
from server.tenancy.roster import Roster, read_roster

_log = logging.getLogger("adatape.tenancy")


class Tenancy:
    """Access and policies, kept current. Lifetime: `start`, `stop`, on one event loop; all else is that loop's too."""

    def __init__(self, settings: Settings) -> None:
        """Read the tenants.

        Raises: ValueError where they cannot be read.
        """
        self._file = settings.tenants_file
        self._api_keys = None if settings.api_keys is None else settings.api_keys.get_secret_value()
        self._every_s = settings.quota_sync_s
        self._seen = _look(self._file)
        self.roster, ring = self._read()
        self.access = Access(
            ring, has_keys=settings.has_keys, require_auth=settings.require_auth, is_public=settings.is_public
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch the tenants file."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def refresh(self) -> None:
        """Take the tenants file on if it has changed; one that cannot be read changes nothing, and is logged."""
        seen = await asyncio.to_thread(_look, self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.roster, self.access.ring = await asyncio.to_thread(self._read)
        except ValueError as error:
            _log.error("tenants_refused reason=%r", str(error))
            return
        _log.info("tenants_read tenants=%d keys=%d", len(self.roster.tenants), len(self.access.ring))

    def _read(self) -> tuple[Roster, KeyRing]:
        return read_roster(self._file, self._api_keys)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.refresh()


def _look(path: Path | None) -> object:
    """Return what changes when a file is replaced or written; None where there is none."""
    if path is None:
        return None
    with contextlib.suppress(OSError):
        status = path.stat()
        return (status.st_ino, status.st_mtime_ns, status.st_size)
    return None
