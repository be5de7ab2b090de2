"""`GET /v1/usage` and `GET /v1/keys`: what tenants have used, and which keys exist."""

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request
from pydantic import AfterValidator

from server.classify.schemas import PublicModel
from server.engine import Engine
from server.errors import NotFound

if TYPE_CHECKING:
    from server.app.access import HttpAccess
    from server.tenancy import Account
    from server.tenancy.store import Usage

EVERYONE = "*"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_FORMAT: dict[str, Any] = {"format": "date"}


def _check_day(text: str | None) -> str | None:
    try:
        if text is not None:
            date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day of the calendar, as YYYY-MM-DD") from None
    return text


class Sums(PublicModel):
    """Sums over the receipts of answered requests."""

    num_requests: int = 0
    num_samples: int = 0
    useful_flops: int = 0
    executed_flops: int = 0
    wasted_flops: int = 0
    """What ran for requests that were cancelled, late or failed: no receipt shows it, but the quota pays for it."""


class ModelUsage(Sums):
    model: str


class QuotaState(PublicModel):
    flops_per_s: float
    limit_flops: float
    """What a full quota holds."""
    remaining_flops: float
    """What is left now, less the most that the open requests can cost."""
    soft_flops: float
    """Below this, caps shrink."""


class TenantUsage(PublicModel):
    tenant: str
    total: Sums
    models: list[ModelUsage]
    quota: QuotaState | None
    """Null where the tenant has none."""


class UsageReport(PublicModel):
    """Usage since a day, or since there are records."""

    since: str | None
    tenants: list[TenantUsage]


class KeyInfo(PublicModel):
    id: str
    tenant: str
    is_admin: bool


class KeyList(PublicModel):
    """The keys that are known, by their public ids."""

    keys: list[KeyInfo]


class UsageView:
    """Shows each tenant its own usage, and admins the usage of all."""

    def __init__(self, engine: Engine, access: "HttpAccess | None") -> None:
        self._engine = engine
        self._access = access

    async def usage(
        self,
        request: Request,
        tenant: Annotated[str | None, Query(description="Another tenant, or * for all: admins only.")] = None,
        since: Annotated[
            str | None,
            Query(pattern=_DAY, description="First day to count, UTC: YYYY-MM-DD.", json_schema_extra=_FORMAT),
            AfterValidator(_check_day),
        ] = None,
    ) -> UsageReport:
        """Show what a tenant has used: exactly the sums of its receipts. Empty where there are no tenants."""
        tenancy, access, http_request = self._engine.tenancy, self._access, request.scope["http_request"]
        if tenancy is None or access is None:
            return UsageReport(since=since, tenants=[])
        caller = http_request.caller
        if tenant not in {None, caller.tenant}:
            access.check_admin(http_request, f"usage of {'all tenants' if tenant == EVERYONE else 'another tenant'}")
        chosen = None if tenant == EVERYONE else [tenant or caller.tenant]
        if tenant not in {None, EVERYONE} and tenant not in tenancy.tenants:
            raise NotFound("tenant", tenant, f"one of {', '.join(sorted(tenancy.tenants))}")
        # Writing the open changes also brings every quota up to date.
        usages = await tenancy.store_sync.usage(chosen, since or "")
        names = sorted({*(tenancy.tenants if chosen is None else chosen), *(usage.tenant for usage in usages)})
        return UsageReport(since=since, tenants=[_to_usage(tenancy.account(name), usages) for name in names])

    async def keys(self) -> KeyList:
        """List the keys that are known, by id; neither key nor hash is shown."""
        tenancy = self._engine.tenancy
        owners = [] if tenancy is None else tenancy.authenticator.ring.owners
        keys = [KeyInfo(id=owner.key_id, tenant=owner.tenant, is_admin=owner.is_admin) for owner in owners]
        return KeyList(keys=sorted(keys, key=lambda key: (key.tenant, key.id)))


def _to_usage(account: "Account", usages: "Iterable[Usage]") -> TenantUsage:
    mine = [usage for usage in usages if usage.tenant == account.name]
    models = sorted({usage.model for usage in mine})
    return TenantUsage(
        tenant=account.name,
        total=Sums(**_sum(mine)),
        models=[ModelUsage(model=name, **_sum(u for u in mine if u.model == name)) for name in models],
        quota=_to_quota(account),
    )


def _to_quota(account: "Account") -> QuotaState | None:
    bucket, policy = account.bucket, account.policy
    if bucket is None:
        return None
    return QuotaState(
        flops_per_s=bucket.rate,
        limit_flops=bucket.burst,
        remaining_flops=bucket.level,
        soft_flops=policy.soft_share * bucket.burst,
    )


def _sum(usages: "Iterable[Usage]") -> dict[str, int]:
    usages = list(usages)
    return {name: sum(getattr(usage, name) for usage in usages) for name in Sums.model_fields}
