"""The tenants of a running server, each with its account; their file is read again when it changes."""

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
from server.tenancy.accounts import Account
from server.tenancy.authentication import Authenticator
from server.tenancy.keys import KeyRing
from server.tenancy.store_sync import StoreSync
from server.tenancy.tenants_file import TenantsFile, read_tenants_file

_log = logging.getLogger("adatape.tenancy")
_UNKNOWN = object()


class Tenancy:
    """Keeps the authenticator and the accounts current. Use it on one event loop only. Lifetime: `start`, `stop`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the tenants file. `clock` is the one of the requests' arrival times, `wall_clock` is Unix time.

        Raises: ValueError where they cannot be read.
        """
        self._file = settings.tenants_file
        self._api_keys = None if settings.api_keys is None else settings.api_keys.get_secret_value()
        self._every_s = settings.quota_sync_s
        self._metrics = metrics
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._grace_s = settings.tenants_grace_s
        self._seen = _file_identity(self._file)
        self.tenants_file, ring = self._read()
        self._refused_s: float | None = None
        """Since when the file has been refused."""
        self._has_expired = False
        if settings.require_auth and len(ring) == 0:
            raise ValueError("require_auth; got no keys; expected one in tenants_file or api_keys at least")
        self.authenticator = Authenticator(
            ring, has_keys=settings.has_keys, require_auth=settings.require_auth, is_public=settings.is_public
        )
        url = settings.quota_store if settings.has_keys else "memory"
        self.store_sync = StoreSync(url, self._accounts, metrics, clock, wall_clock)
        self._tasks = [
            BackgroundTask("tenants", self.refresh, self._every_s, metrics),
            BackgroundTask("quota", self.store_sync.sync, self._every_s, metrics),
        ]
        metrics.tenants_last_read_ok.watch(lambda: float(self._refused_s is None))
        metrics.tenants_read.declare((result,) for result in ("ok", "refused"))
        self._apply_policies()

    def account(self, tenant: str) -> Account:
        """Return a tenant's account; it stays when the file no longer names the tenant."""
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(
                tenant, self.tenants_file.policy(tenant), TenantMeter(self._metrics, tenant)
            )
            account.set_policy(account.policy, self._clock())
            self._show_quota(account)
        return account

    def quota_of(self, tenant: str) -> tuple[float, float] | None:
        """Return the FLOPs that are left of a tenant's quota, 0 at least, and those of a full one; None without."""
        bucket = self.account(tenant).bucket
        return None if bucket is None else (max(0.0, bucket.left(self._clock())), bucket.burst)

    @property
    def tenants(self) -> set[str]:
        """Return the tenants that have a key, a policy, or an account already."""
        return {
            *self.tenants_file.tenants,
            *(owner.tenant for owner in self.authenticator.ring.owners),
            *self._accounts,
        }

    async def start(self) -> None:
        """Open the store, and begin to watch the tenants file.

        Raises: Unavailable where the store cannot be opened.
        """
        await self.store_sync.open()
        for task in self._tasks:
            task.start()

    def reload(self) -> None:
        """Read the tenants file now, changed or not."""
        self._seen = _UNKNOWN
        self._tasks[0].run_soon()

    async def stop(self) -> None:
        """Write what is left to write."""
        for task in self._tasks:
            await task.stop()
        await self.store_sync.close()

    async def refresh(self) -> None:
        """Use the tenants file if it has changed.

        A file that cannot be read is logged and changes nothing at first. After `tenants_grace_s` the keys of its last
        good version are refused, because one of them may have been withdrawn since.
        """
        seen = await asyncio.to_thread(_file_identity, self._file)
        if seen != self._seen:
            try:
                self.tenants_file, self.authenticator.ring = await asyncio.to_thread(self._read)
            except ValueError as error:
                self._refused(str(error))
            else:
                self._accepted()
            self._seen = seen
        if self._refused_s is not None and self._clock() - self._refused_s >= self._grace_s:
            self._expire_keys()

    def _refused(self, reason: str) -> None:
        self._metrics.tenants_read.add(1, "refused")
        if self._refused_s is None:
            self._refused_s = self._clock()
        _log.error("tenants_refused reason=%r believed_s=%g", reason, self._grace_s)

    def _expire_keys(self) -> None:
        """Refuse the keys of a file that could not be read for too long; the keys of `api_keys` stay."""
        if self._has_expired:
            return
        self._has_expired = True
        self.authenticator.ring = read_tenants_file(None, self._api_keys)[1]
        _log.error("tenants_expired seconds=%g keys=%d", self._grace_s, len(self.authenticator.ring))

    def _accepted(self) -> None:
        self._refused_s, self._has_expired = None, False
        self._metrics.tenants_read.add(1, "ok")
        _log.info("tenants_read tenants=%d keys=%d", len(self.tenants_file.tenants), len(self.authenticator.ring))
        self._apply_policies()

    def _read(self) -> tuple[TenantsFile, KeyRing]:
        return read_tenants_file(self._file, self._api_keys)

    def _apply_policies(self) -> None:
        """Give every account the policy that the file has for its tenant now."""
        for tenant in {*self._accounts, *self.tenants_file.tenants}:
            self.account(tenant).set_policy(self.tenants_file.policy(tenant), self._clock())
            self._show_quota(self.account(tenant))

    def _show_quota(self, account: Account) -> None:
        """Show a tenant's quota in the metrics; a quota that was removed is infinite."""
        if account.bucket is not None:
            account.meter.watch_quota(
                lambda: account.bucket.left(self._clock()) if account.bucket else inf,
                lambda: account.bucket.burst if account.bucket else inf,
            )


def _file_identity(path: Path | None) -> object:
    """Return values that change when a file is replaced or written, or why it cannot be examined."""
    if path is None:
        return None
    try:
        status = files.status(path)
    except OSError as error:
        return error.strerror
    return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_mode)
