"""Keeps accounts and a store in step: written behind the requests, never in their way.

A batch is cut on the event loop and written by a thread. One that could not be written is sent again before the next
is cut, so nothing is lost while the server lives, and the store counts it once.
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
from server.tenancy.store import Moment, Store, Usage, UsageBatch, open_store, read_boot

_log = logging.getLogger("adatape.tenancy")
T = TypeVar("T")

ANSWER_S = 10.0
"""How long the store may take; one that waits for another server's transaction gives up earlier by itself."""


class StoreSync:
    """Sends what accounts have moved, and takes back what is left of each quota. Lifetime: `open`, `close`."""

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
        """Write and read; a store that cannot be reached is logged once, and its turn comes again."""
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
                batch = self._unsent = self._unsent or self._cut()
                moment = Moment(self._wall_clock(), self._clock(), self._boot)
                levels = await self._run(self._store.sync, batch, moment)
                self._unsent = None
                if not is_retry:
                    break
        self._metrics.quota_syncs.add(1, "ok")
        now = self._clock()
        for tenant, level in levels.items():
            self._accounts[tenant].settle_with(level, now)

    def _cut(self) -> UsageBatch:
        self._number += 1
        day = datetime.fromtimestamp(self._wall_clock(), UTC).date().isoformat()
        accounts = list(self._accounts.values())
        spends = [spend for account in accounts if (spend := account.take_spend()) is not None]
        return UsageBatch(
            self._writer, self._number, spends, [u for account in accounts for u in account.take_usages(day)]
        )

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        """Have the store's thread do something.

        Raises: Unavailable where it does not come back: a disk elsewhere may be gone.
        """
        whole = partial(files.within, ANSWER_S, ("store", id(self)), partial(work, *arguments))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, whole)
        except TimeoutError as error:
            raise Unavailable("quota store", error.strerror, "one that answers: see quota_store") from error
