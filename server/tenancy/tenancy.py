"""The tenants of a running server: read from their file, again whenever it changes, each with its account."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from server.metrics import Metrics, TenantMeter
from server.settings import Settings
from server.tenancy.access import Access
from server.tenancy.accounts import Account
from server.tenancy.keys import KeyRing
from server.tenancy.ledger import QuotaLedger
from server.tenancy.roster import Roster, read_roster

_log = logging.getLogger("adatape.tenancy")


class Tenancy:
    """Access and accounts, kept current. Lifetime: `start`, `stop`, on one event loop; all else is that loop's too."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the tenants. `clock` is the one that requests are stamped by, `wall_clock` is Unix time.

        Raises: ValueError where they cannot be read.
        """
        self._file = settings.tenants_file
        self._api_keys = None if settings.api_keys is None else settings.api_keys.get_secret_value()
        self._every_s = settings.quota_sync_s
        self._metrics = metrics
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._seen = _look(self._file)
        self.roster, ring = self._read()
        if settings.require_auth and len(ring) == 0:
            raise ValueError("require_auth; got no keys; expected one in tenants_file or api_keys at least")
        self.access = Access(
            ring, has_keys=settings.has_keys, require_auth=settings.require_auth, is_public=settings.is_public
        )
        url = settings.quota_store if settings.has_keys else "memory"
        self.ledger = QuotaLedger(url, self._accounts, metrics, clock, wall_clock)
        self._task: asyncio.Task[None] | None = None
        metrics.tenants_read.declare((result,) for result in ("ok", "refused"))
        self._take_on()

    def account(self, tenant: str) -> Account:
        """Return a tenant's account; it outlives the tenant's line in the file."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(
                tenant, self.roster.policy(tenant), TenantMeter(self._metrics, tenant)
            )
            account.adopt(account.policy, self._clock())
            self._watch(account)
        return account

    def quota_of(self, tenant: str) -> tuple[float, float] | None:
        """Return the FLOPs that are left of a tenant's quota, 0 at least, and those of a full one; None without."""
        bucket = self.account(tenant).bucket
        return None if bucket is None else (max(0.0, bucket.left(self._clock())), bucket.burst)

    @property
    def tenants(self) -> set[str]:
        """Return the tenants that have a key, a policy, or an account already."""
        return {*self.roster.tenants, *(owner.tenant for owner in self.access.ring.owners), *self._accounts}

    async def start(self) -> None:
        """Open the store, and begin to watch the tenants file.

        Raises: Unavailable where the store cannot be opened.
        """
        await self.ledger.open()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Write what is left to write."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self.ledger.close()

    async def refresh(self) -> None:
        """Take the tenants file on if it has changed; one that cannot be read changes nothing, and is logged."""
        seen = await asyncio.to_thread(_look, self._file)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self.roster, self.access.ring = await asyncio.to_thread(self._read)
        except ValueError as error:
            self._metrics.tenants_read.add(1, "refused")
            _log.error("tenants_refused reason=%r", str(error))
            return
        self._metrics.tenants_read.add(1, "ok")
        _log.info("tenants_read tenants=%d keys=%d", len(self.roster.tenants), len(self.access.ring))
        self._take_on()

    def _read(self) -> tuple[Roster, KeyRing]:
        return read_roster(self._file, self._api_keys)

    def _take_on(self) -> None:
        """Give every tenant the policy that the file has for it now; one that it names no more has no keys either."""
        for tenant in {*self._accounts, *self.roster.tenants}:
            self.account(tenant).adopt(self.roster.policy(tenant), self._clock())
            self._watch(self.account(tenant))

    def _watch(self, account: Account) -> None:
        """Show a quota; one that was withdrawn is infinite."""
        if account.bucket is not None:
            account.meter.watch_quota(
                lambda: account.bucket.left(self._clock()) if account.bucket else inf,
                lambda: account.bucket.burst if account.bucket else inf,
            )

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.refresh()
            await self.ledger.sync()


def _look(path: Path | None) -> object:
    """Return what changes when a file is replaced or written; None where there is none."""
    if path is None:
        return None
    with contextlib.suppress(OSError):
        status = path.stat()
        return (status.st_ino, status.st_mtime_ns, status.st_size)
    return None
