"""The store of one machine: a file, and the standard library."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from server.errors import Unavailable
from server.tenancy.store import COUNTS, Batch, Moment, Spend, Usage, refilled

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
        with self._explained():
            self._db = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)

    def sync(self, batch: Batch, now: Moment) -> dict[str, float]:
        with self._transaction():
            if self._is_new(batch, now.wall_s):
                levels = {spend.tenant: self._pay(spend, now) for spend in batch.spends}
                self._db.executemany(_ADD_USAGE, [_to_row(usage) for usage in batch.usages])
                return levels
            return {spend.tenant: self._level(spend, now)[0] for spend in batch.spends}

    def usage(self, tenants: Sequence[str] | None, since: str) -> list[Usage]:
        with self._explained():
            rows = self._db.execute("SELECT * FROM usage WHERE day >= ? ORDER BY tenant, model, day", (since,))
            return [Usage(*row) for row in rows if tenants is None or row[0] in tenants]

    def close(self) -> None:
        with self._explained():
            self._db.close()

    def _is_new(self, batch: Batch, now_s: float) -> bool:
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
        except sqlite3.Error as error:
            expected = "a file that can be written: see quota_store"
            raise Unavailable("quota store", f"{self._path}: {error}", expected) from error


def _to_row(usage: Usage) -> tuple[str | int, ...]:
    return (usage.tenant, usage.model, usage.day, *(getattr(usage, name) for name in COUNTS))
