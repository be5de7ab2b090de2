"""The store of one machine: an SQLite file."""

import errno
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from server.errors import Unavailable
from server.host import files
from server.tenancy.store import COUNTS, Spend, Timestamp, Usage, UsageBatch, refilled

_SCHEMA = """
CREATE TABLE IF NOT EXISTS levels (
    tenant TEXT PRIMARY KEY, level REAL NOT NULL, wall_s REAL NOT NULL, steady_s REAL NOT NULL, boot TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS writers (writer TEXT PRIMARY KEY, number INTEGER NOT NULL, at_s REAL NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT, model TEXT, day TEXT,
    num_requests INTEGER NOT NULL, num_samples INTEGER NOT NULL,
    useful_flops INTEGER NOT NULL, executed_flops INTEGER NOT NULL, wasted_flops INTEGER NOT NULL,
    PRIMARY KEY (tenant, model, day)
) STRICT, WITHOUT ROWID;
"""
_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
_ADD_USAGE = f"INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET {_ADDED}"  # noqa: S608  # nosec B608
_WAIT_S = 5.0
"""How long another server's transaction on the same file may take."""
_WRITER_DAYS = 7
_MEMORY = ":memory:"
_log = logging.getLogger("adatape.tenancy")


class SqliteStore:
    """Usage and quotas in an SQLite file, which several servers of one machine may share.

    Committed by a write-ahead log: a crash of the server loses nothing that was synced, one of the machine may lose
    the last moments.
    """

    def __init__(self, path: str) -> None:
        """Open or create the file.

        Raises: Unavailable.
        """
        self._path = path
        self._is_file = path != _MEMORY
        self._kept: sqlite3.Connection | None = None
        """A copy of a removed file in memory, until the file exists again."""
        self._open()

    def _open(self) -> None:
        with self._errors_as_unavailable():
            self._file_identity()
            self._db = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._seen, self._log_inode = self._file_identity(), _inode(self._sibling("-wal"))

    def sync(self, batch: UsageBatch, now: Timestamp) -> dict[str, float]:
        self._check_place()
        with self._transaction():
            if self._is_new(batch, now.wall_s):
                levels = {spend.tenant: self._pay(spend, now) for spend in batch.spends}
                self._db.executemany(_ADD_USAGE, [_to_row(usage) for usage in batch.usages])
                return levels
            return {spend.tenant: self._level(spend, now)[0] for spend in batch.spends}

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        self._check_place()
        with self._errors_as_unavailable():
            rows = self._db.execute("SELECT * FROM usage WHERE day >= ? ORDER BY tenant, model, day", (since,))
            return [Usage(*row) for row in rows if tenants is None or row[0] in tenants]

    def close(self) -> None:
        with self._errors_as_unavailable():
            self._db.close()
            if self._kept is not None:
                self._kept.close()

    def _file_identity(self) -> tuple[int, int, int] | None:
        """Return the device, inode and size of the file; None where there is none."""
        if not self._is_file:
            return None
        try:
            found = files.check_regular(Path(self._path))
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino, found.st_size)

    def _check_place(self) -> None:
        """Check that writes go to the file at our path: SQLite itself never checks.

        A file that was removed is written again with all its content. If another file replaced it, that one is used
        from now on, as after a restart. A file that was truncated is refused for as long as it exists.
        Raises: Unavailable.
        """
        with self._errors_as_unavailable():
            found, seen = self._file_identity(), self._seen
            if self._kept is not None or (found is None and self._is_file):
                self._restore()
            elif found is None or found == seen:
                return
            elif seen is None or found[:2] != seen[:2]:
                _log.error("quota_store_replaced path=%s", self._path)
                self._close_removed()
                self._open()
            elif found[2] < seen[2]:
                raise OSError(errno.EIO, f"cut from {seen[2]} to {found[2]} bytes")
            else:
                self._seen = found

    def _sibling(self, suffix: str) -> Path:
        return Path(self._path + suffix)

    def _close_removed(self) -> None:
        """Close a file that no longer exists, and delete its log, which SQLite would apply to the next file.

        A log that belongs to another server by now, which has opened the next file already, stays.
        """
        self._db.close()
        if _inode(self._sibling("-wal")) == self._log_inode:
            for suffix in ("-wal", "-shm"):
                self._sibling(suffix).unlink(missing_ok=True)

    def _restore(self) -> None:
        """Write a removed file again: the open connection still has its content."""
        if self._kept is None:
            _log.error("quota_store_removed path=%s", self._path)
            kept = sqlite3.connect(_MEMORY, check_same_thread=False)
            self._db.backup(kept)
            self._close_removed()
            self._kept = kept
        self._open()
        self._kept.backup(self._db)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._kept.close()
        self._kept, self._seen = None, self._file_identity()

    def _is_new(self, batch: UsageBatch, now_s: float) -> bool:
        self._db.execute("DELETE FROM writers WHERE at_s < ?", (now_s - _WRITER_DAYS * 86_400,))
        found = self._db.execute("SELECT number FROM writers WHERE writer = ?", (batch.writer,)).fetchone()
        self._db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?, ?)", (batch.writer, batch.number, now_s))
        return found is None or found[0] < batch.number

    def _pay(self, spend: Spend, now: Timestamp) -> float:
        level, since = self._level(spend, now)
        level = refilled(level, now.since_s(since), spend)
        row = (spend.tenant, level, now.wall_s, now.steady_s, now.boot)
        self._db.execute("INSERT OR REPLACE INTO levels VALUES (?, ?, ?, ?, ?)", row)
        return level

    def _level(self, spend: Spend, now: Timestamp) -> tuple[float, Timestamp]:
        """Return what was left of a quota, and when."""
        query = "SELECT level, wall_s, steady_s, boot FROM levels WHERE tenant = ?"
        found = self._db.execute(query, (spend.tenant,)).fetchone()
        return (spend.burst, now) if found is None else (found[0], Timestamp(*found[1:]))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors_as_unavailable():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors_as_unavailable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            expected = "a file that can be written: see quota_store"
            raise Unavailable("quota store", f"{self._path}: {files.os_error_text(error)}", expected) from error


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _to_row(usage: Usage) -> tuple[str | int, ...]:
    return (usage.tenant, usage.model, usage.day, *(getattr(usage, name) for name in COUNTS))
