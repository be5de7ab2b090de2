"""Synchronizes accounts with a store, in the background.

The event loop makes a batch of what has changed, and a thread writes it. A batch that could not be written is sent
again before the next one is made, so nothing is lost while the server runs, and the store counts each batch once.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from server.errors import Unavailable
from server.host import files
from server.metrics import Metrics
from server.tenancy.accounts import Account
from server.tenancy.sqlite_store import SqliteStore
from server.tenancy.store import Store, Timestamp, Usage, UsageBatch, read_boot

_log = logging.getLogger("adatape.tenancy")
T = TypeVar("T")

ANSWER_S = 10.0
"""How long the store may take for one call. Waiting for another server's transaction times out earlier by itself."""


class StoreSync:
    """Sends the changes of all accounts to the store, and reads what each quota has left. Lifetime: `open`, `close`."""

    def __init__(
        self,
        url: str,
        accounts: Mapping[str, Account],
        metrics: Metrics,
        clock: Callable[[], float],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url
        self._accounts = accounts
        self._metrics = metrics
        self._clock = clock
        self._wall_clock = wall_clock
        self._boot = read_boot()
        self._store: Store | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._lock = asyncio.Lock()
        self._writer = secrets.token_hex(8)
        self._number = 0
        self._unsent: UsageBatch | None = None
        self._is_failing = False
        metrics.quota_syncs.declare((result,) for result in ("ok", "failed"))

    async def open(self) -> None:
        """Open the store and read what is left of each quota.

        Raises: Unavailable.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="quota")
        self._store = await self._run(open_store, self._url)
        await self._exchange()

    async def close(self) -> None:
        """Write what is left to write."""
        if self._store is None or self._thread is None:
            return
        await self.sync()
        if self._unsent is not None:
            _log.error("usage_lost batch=%s", self._unsent)
        try:
            await self._run(self._store.close)
        except Unavailable as error:
            _log.error("quota_store_not_closed reason=%r", str(error))
        self._thread.shutdown(wait=False)
        self._store = None

    async def sync(self) -> None:
        """Exchange with the store. A failure is logged once, and the next call tries again."""
        try:
            await self._exchange()
        except Unavailable as error:
            self._metrics.quota_syncs.add(1, "failed")
            if not self._is_failing:
                _log.error("quota_store_failed reason=%r", str(error))
            self._is_failing = True
            return
        if self._is_failing:
            _log.warning("quota_store_back")
        self._is_failing = False

    async def usage(self, tenants: list[str] | None, since: str) -> list[Usage]:
        """Return all usage up to now.

        Raises: Unavailable.
        """
        await self._exchange()
        assert self._store is not None, "It was open a moment ago. This is a bug."
        return await self._run(self._store.usage, tenants, since)

    async def _exchange(self) -> None:
        async with self._lock:
            if self._store is None:
                raise Unavailable("quota store", "a server that stops", "one that runs")
            while True:
                is_retry = self._unsent is not None
                batch = self._unsent = self._unsent or self._make_batch()
                timestamp = Timestamp(self._wall_clock(), self._clock(), self._boot)
                levels = await self._run(self._store.sync, batch, timestamp)
                self._unsent = None
                if not is_retry:
                    break
        self._metrics.quota_syncs.add(1, "ok")
        now = self._clock()
        for tenant, level in levels.items():
            self._accounts[tenant].set_level(level, now)

    def _make_batch(self) -> UsageBatch:
        self._number += 1
        day = datetime.fromtimestamp(self._wall_clock(), UTC).date().isoformat()
        accounts, now = list(self._accounts.values()), self._clock()
        spends = [spend for account in accounts if (spend := account.take_spend(now)) is not None]
        return UsageBatch(
            self._writer, self._number, spends, [u for account in accounts for u in account.take_usages(day)]
        )

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a call of the store on its thread.

        Raises: Unavailable where it does not return in time: a network disk may be gone.
        """
        bounded = partial(files.run_within, ANSWER_S, ("store", id(self)), partial(work, *arguments))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, bounded)
        except TimeoutError as error:
            raise Unavailable("quota store", error.strerror, "one that answers: see quota_store") from error


def open_store(url: str) -> Store:
    """Open the store that a `quota_store` setting names.

    Raises: Unavailable where it cannot be opened.
    """
    kind, _, place = url.partition(":")
    if kind == "memory":
        return SqliteStore(":memory:")
    if kind == "sqlite":
        return SqliteStore(place)
    from server.tenancy.redis_store import RedisStore

    return RedisStore(url)
