"""The dashboard of load: queues, refusals and smaller caps."""

from monitoring.dashboards.plan import JOB, MODEL, Board, Chart, Kind, Query, rate


def _causes(title: str, about: str, metric: str, unit: str = "reqps") -> Chart:
    return Chart(title, about, unit, (Query(rate(metric, MODEL, "cause"), "{{cause}}"),), Kind.STACKED)


LOAD = (
    Chart(
        "Demand and capacity",
        "FLOPs asked for and run, a second, against what the device can run at full tape: the signal to scale on.",
        "short",
        (
            Query(rate("adatape_demanded_flops_total", MODEL), "demanded"),
            Query(rate("adatape_executed_flops_total", MODEL), "executed"),
            Query(f"sum by (model) (adatape_capacity_flops_per_second{{{MODEL}}})", "capacity {{model}}"),
        ),
    ),
    Chart(
        "Demand as a share of capacity",
        "All models together. Above 1 tapes are shortened or requests refused.",
        "percentunit",
        (Query(f"adatape:demand:ratio_rate5m{{{JOB}}}", "5 minutes"),),
    ),
    Chart(
        "Pending samples",
        "Admitted and not yet answered, against the limit.",
        "short",
        (
            Query(f"adatape_pending_samples{{{JOB}}}", "{{instance}}"),
            Query(f"max(adatape_pending_samples_limit{{{JOB}}})", "limit"),
        ),
    ),
    Chart(
        "Pending time",
        "Predicted until all that is admitted has run, against the limit.",
        "s",
        (
            Query(f"adatape_pending_seconds{{{JOB}}}", "{{instance}}"),
            Query(f"max(adatape_pending_seconds_limit{{{JOB}}})", "limit"),
        ),
    ),
    Chart(
        "Requests let in",
        "A second.",
        "reqps",
        (Query(rate("adatape_requests_admitted_total", MODEL, "model"), "{{model}}"),),
    ),
    Chart(
        "Ready and draining",
        "Servers that admit requests, and that finish what they accepted.",
        "short",
        (
            Query(f"sum(adatape_ready{{{JOB}}})", "ready"),
            Query(f"sum(adatape_draining{{{JOB}}})", "draining"),
        ),
    ),
)

PRICE = (
    _causes("Degraded", "Samples answered under a smaller cap than asked.", "adatape_degraded_total", "ops"),
    _causes("Shed", "Requests refused for overload, by the limit that they met.", "adatape_shed_total"),
    _causes("Expired", "Requests whose deadline could not be made, by when that was seen.", "adatape_expired_total"),
    _causes("Cancelled", "Requests whose caller left, before or after work had begun.", "adatape_cancelled_total"),
    _causes("Wasted FLOP/s", "Work for requests that were not answered.", "adatape_wasted_flops_total", "short"),
    Chart(
        "Budget reasons",
        "Samples answered, by the rule that set their cap.",
        "ops",
        (Query(rate("adatape_budget_reason_total", MODEL, "reason"), "{{reason}}"),),
        Kind.STACKED,
    ),
)

_TENANTS = "tenants (--tenants-file)"
TENANTS = (
    Chart(
        "Requests by tenant",
        "By outcome.",
        "reqps",
        (Query(rate("adatape_tenant_requests_total", JOB, "tenant, outcome"), "{{tenant}} {{outcome}}"),),
        Kind.STACKED,
        needs=_TENANTS,
    ),
    Chart(
        "FLOP/s by tenant",
        "What its answers took, and what ran for it in vain.",
        "short",
        (Query(rate("adatape_tenant_flops_total", JOB, "tenant, kind"), "{{tenant}} {{kind}}"),),
        Kind.STACKED,
        needs=_TENANTS,
    ),
    Chart(
        "Quota left",
        "FLOPs, against what a full quota holds; at 0 a tenant is told to wait.",
        "short",
        (
            Query(f"min by (tenant) (adatape_tenant_quota_flops{{{JOB}}})", "{{tenant}}"),
            Query(f"max by (tenant) (adatape_tenant_quota_limit_flops{{{JOB}}})", "{{tenant}} limit"),
        ),
        needs=_TENANTS,
    ),
    Chart(
        "Tape wanted by tenant",
        "Samples answered, by the tape that they would have read.",
        "ops",
        (Query(rate("adatape_tenant_samples_total", JOB, "tenant, want"), "{{tenant}} {{want}}"),),
        Kind.STACKED,
        needs=_TENANTS,
    ),
    Chart(
        "Quota store",
        "Times that usage was sent there, by what came of it.",
        "ops",
        (Query(rate("adatape_quota_syncs_total", JOB, "result"), "{{result}}"),),
        needs=_TENANTS,
    ),
    Chart(
        "Tenants file",
        "Times that a change of it was read, by what came of it; 0 while what is there is refused.",
        "ops",
        (
            Query(rate("adatape_tenants_reads_total", JOB, "result"), "{{result}}"),
            Query(f"adatape_tenants_last_read_ok{{{JOB}}}", "{{instance}}: last read ok"),
        ),
        needs=_TENANTS,
    ),
)

OVERLOAD = Board(
    "adatape-overload",
    "adatape-serve: overload and budgets",
    "How full it is, and who pays for that: shorter tapes first, refusals last.",
    (("Load", LOAD), ("Price", PRICE), ("Tenants", TENANTS)),
)
