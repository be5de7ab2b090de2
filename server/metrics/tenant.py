"""One tenant's metrics, with the look-ups done beforehand."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from server.errors import ServeError
from server.records import Receipt

if TYPE_CHECKING:
    from server.metrics.metrics import Metrics


class TenantMeter:
    """Counts what one tenant asks and gets. Tenants come from a file, so their names are labels without surprise."""

    def __init__(self, metrics: "Metrics", tenant: str) -> None:
        self._metrics = metrics
        self._tenant = tenant
        self._ok = metrics.tenant_requests.cell(tenant, "ok")
        self._useful, self._padding, self._wasted = (
            metrics.tenant_flops.cell(tenant, kind) for kind in ("useful", "padding", "wasted")
        )
        self._most, self._less, self._unread = (
            metrics.tenant_wants.cell(tenant, want) for want in ("maximum", "less", "unread")
        )

    def answered(self, receipts: Sequence[Receipt], tape_capacity: int, useful_flops: int, executed_flops: int) -> None:
        """Count an answered request, and how much its inputs wanted."""
        self._ok.value += 1
        self._useful.value += useful_flops
        self._padding.value += executed_flops - useful_flops
        for receipt in receipts:
            wanted = receipt.tape_length_wanted
            cell = self._unread if wanted is None else self._most if wanted >= tape_capacity else self._less
            cell.value += 1

    def refused(self, error: ServeError) -> None:
        """Count a request that got an error."""
        self._metrics.tenant_requests.add(1, self._tenant, error.reason)

    def wasted(self, flops: int) -> None:
        """Count FLOPs that ran without an answer."""
        self._wasted.value += flops

    def watch_quota(self, left: Callable[[], float], burst: Callable[[], float]) -> None:
        """Show what is left of a quota, and what a full one holds."""
        self._metrics.tenant_quota.watch(left, self._tenant)
        self._metrics.tenant_quota_limit.watch(burst, self._tenant)
