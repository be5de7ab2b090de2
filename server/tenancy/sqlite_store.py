"""The store of one machine: a file, and the standard library."""

import errno
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from server.errors import Unavailable
from server.host import files
from server.models.integrity import os_error_text
from server.tenancy.store import COUNTS, Moment, Spend, Usage, UsageBatch, refilled

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
        """What a file held that was removed, until there is one again."""
        self._open()

    def _open(self) -> None:
        with self._explained():
            self._look()
            self._db = sqlite3.connect(self._path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._seen, self._log_inode = self._look(), _inode(self._beside("-wal"))

    def sync(self, batch: UsageBatch, now: Moment) -> dict[str, float]:
        self._check_place()
        with self._transaction():
            if self._is_new(batch, now.wall_s):
                levels = {spend.tenant: self._pay(spend, now) for spend in batch.spends}
                self._db.executemany(_ADD_USAGE, [_to_row(usage) for usage in batch.usages])
                return levels
            return {spend.tenant: self._level(spend, now)[0] for spend in batch.spends}

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        self._check_place()
        with self._explained():
            rows = self._db.execute("SELECT * FROM usage WHERE day >= ? ORDER BY tenant, model, day", (since,))
            return [Usage(*row) for row in rows if tenants is None or row[0] in tenants]

    def close(self) -> None:
        with self._explained():
            self._db.close()
            if self._kept is not None:
                self._kept.close()

    def _look(self) -> tuple[int, int, int] | None:
        """Return what tells the file from others, and its size; None where there is none."""
        if not self._is_file:
            return None
        try:
            found = files.check_regular(Path(self._path))
        except FileNotFoundError:
            return None
        return (found.st_dev, found.st_ino, found.st_size)

    def _check_place(self) -> None:
        """Return if what is written goes to the file that is there: SQLite itself does not look.

        A file that was removed comes back with all that it held; where another took its place that one counts from now
        on, as after a restart. One that was cut short is of no use, and is told as long as it is there.
        Raises: Unavailable.
        """
        with self._explained():
            found, seen = self._look(), self._seen
            if self._kept is not None or (found is None and self._is_file):
                self._come_back()
            elif found is None or found == seen:
                return
            elif seen is None or found[:2] != seen[:2]:
                _log.error("quota_store_replaced path=%s", self._path)
                self._let_go()
                self._open()
            elif found[2] < seen[2]:
                raise OSError(errno.EIO, f"cut from {seen[2]} to {found[2]} bytes")
            else:
                self._seen = found

    def _beside(self, suffix: str) -> Path:
        return Path(self._path + suffix)

    def _let_go(self) -> None:
        """Close a file that is no longer there, and take its log away, which would be played onto the next one.

        SQLite leaves it; where it is another server's by now, who has opened the next file already, so do we.
        """
        self._db.close()
        if _inode(self._beside("-wal")) == self._log_inode:
            for suffix in ("-wal", "-shm"):
                self._beside(suffix).unlink(missing_ok=True)

    def _come_back(self) -> None:
        """Write all of a file that was removed anew: its last owner still has it."""
        if self._kept is None:
            _log.error("quota_store_removed path=%s", self._path)
            kept = sqlite3.connect(_MEMORY, check_same_thread=False)
            self._db.backup(kept)
            self._let_go()
            self._kept = kept
        self._open()
        self._kept.backup(self._db)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._kept.close()
        self._kept, self._seen = None, self._look()

    def _is_new(self, batch: UsageBatch, now_s: float) -> bool:
        self._db.execute("DELETE FROM writers WHERE at_s < ?", (now_s - _WRITER_DAYS * 86_400,))
        found = self._db.execute("SELECT number FROM writers WHERE writer = ?", (batch.writer,)).fetchone()
        self._db.execute("INSERT OR REPLACE INTO writers VALUES (?, ?, ?)", (batch.writer, batch.number, now_s))
        return found is None or found[0] < batch.number

    def _pay(self, spend: Spend, now: Moment) -> float:
        level, since = self._level(spend, now)
        level = refilled(level, now.since_s(since), spend)
        row = (spend.tenant, level, now.wall_s, now.steady_s, now.boot)
        self._db.execute("INSERT OR REPLACE INTO levels VALUES (?, ?, ?, ?, ?)", row)
        return level

    def _level(self, spend: Spend, now: Moment) -> tuple[float, Moment]:
        """Return what was left of a quota, and when."""
        query = "SELECT level, wall_s, steady_s, boot FROM levels WHERE tenant = ?"
        found = self._db.execute(query, (spend.tenant,)).fetchone()
        return (spend.burst, now) if found is None else (found[0], Moment(*found[1:]))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            expected = "a file that can be written: see quota_store"
            raise Unavailable("quota store", f"{self._path}: {os_error_text(error)}", expected) from error


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _to_row(usage: Usage) -> tuple[str | int, ...]:
    return (usage.tenant, usage.model, usage.day, *(getattr(usage, name) for name in COUNTS))
