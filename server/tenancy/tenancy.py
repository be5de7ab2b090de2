"""The tenants of a running server: read from their file, again whenever it changes, each with its account."""

import asyncio
import logging
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from server.host import files
from server.metrics import Metrics, TenantMeter
from server.process.background_tasks import BackgroundTask
from server.settings import Settings
from server.tenancy.access import Access
from server.tenancy.accounts import Account
from server.tenancy.keys import KeyRing
from server.tenancy.store_sync import StoreSync
from server.tenancy.tenants_file import TenantsFile, read_tenants_file

_log = logging.getLogger("adatape.tenancy")
_UNSEEN = object()


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
        self._grace_s = settings.tenants_grace_s
        self._seen = _look(self._file)
        self.roster, ring = self._read()
        self._refused_s: float | None = None
        """Since when the file has been of no use."""
        self._has_expired = False
        if settings.require_auth and len(ring) == 0:
            raise ValueError("require_auth; got no keys; expected one in tenants_file or api_keys at least")
        self.access = Access(
            ring, has_keys=settings.has_keys, require_auth=settings.require_auth, is_public=settings.is_public
        )
        url = settings.quota_store if settings.has_keys else "memory"
        self.ledger = StoreSync(url, self._accounts, metrics, clock, wall_clock)
        self._tasks = [
            BackgroundTask("tenants", self.refresh, self._every_s, metrics),
            BackgroundTask("quota", self.ledger.sync, self._every_s, metrics),
        ]
        metrics.tenants_last_read_ok.watch(lambda: float(self._refused_s is None))
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
        for task in self._tasks:
            task.start()

    def read_again(self) -> None:
        """Read the tenants file now, changed or not."""
        self._seen = _UNSEEN
        self._tasks[0].run_soon()

    async def stop(self) -> None:
        """Write what is left to write."""
        for task in self._tasks:
            await task.stop()
        await self.ledger.close()

    async def refresh(self) -> None:
        """Take the tenants file on if it has changed.

        One that cannot be read is logged and changes nothing, until its time is up: then the keys that were read from
        it before are refused, for among them may be one that was to be withdrawn.
        """
        seen = await asyncio.to_thread(_look, self._file)
        if seen != self._seen:
            try:
                self.roster, self.access.ring = await asyncio.to_thread(self._read)
            except ValueError as error:
                self._refused(str(error))
            else:
                self._taken_on()
            self._seen = seen
        if self._refused_s is not None and self._clock() - self._refused_s >= self._grace_s:
            self._believe_no_more()

    def _refused(self, reason: str) -> None:
        self._metrics.tenants_read.add(1, "refused")
        if self._refused_s is None:
            self._refused_s = self._clock()
        _log.error("tenants_refused reason=%r believed_s=%g", reason, self._grace_s)

    def _believe_no_more(self) -> None:
        """Refuse the keys of a file that has been of no use for too long; those that came beside it stay."""
        if self._has_expired:
            return
        self._has_expired = True
        self.access.ring = read_tenants_file(None, self._api_keys)[1]
        _log.error("tenants_expired seconds=%g keys=%d", self._grace_s, len(self.access.ring))

    def _taken_on(self) -> None:
        self._refused_s, self._has_expired = None, False
        self._metrics.tenants_read.add(1, "ok")
        _log.info("tenants_read tenants=%d keys=%d", len(self.roster.tenants), len(self.access.ring))
        self._take_on()

    def _read(self) -> tuple[TenantsFile, KeyRing]:
        return read_tenants_file(self._file, self._api_keys)

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


def _look(path: Path | None) -> object:
    """Return what changes when a file is replaced or written; why it can't be told where it cannot."""
    if path is None:
        return None
    try:
        status = files.status(path)
    except OSError as error:
        return error.strerror
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode)
