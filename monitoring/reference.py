"""`python -m monitoring.reference`: write docs/metrics.md from what the server declares."""

from collections.abc import Iterable
from pathlib import Path

from server.metrics import Metrics
from server.metrics.gpu import FIGURES
from server.metrics.meters import CANCELLED_CAUSES, EXPIRED_CAUSES, SAMPLE_FAILURES, SHED_CAUSES, WASTE_CAUSES
from server.metrics.metric_types import Counter, Gauge, Histogram
from server.metrics.metrics import PROTOCOLS, REASONS
from server.metrics.version_counts import DEGRADED, DEGRADED_CAUSES, OK, PADDING_CAUSES
from server.records import BudgetReason

PATH = Path(__file__).parents[1] / "docs" / "metrics.md"
KINDS = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
HEAD = """# Metrics

What `GET /metrics` shows. This page is generated from the code: `python -m monitoring.reference`.

Base units throughout: seconds, bytes, joules, plain FLOPs (a multiply-add counts as 2), ratios from 0 to 1. Counters
end in `_total`. Every limit stands beside the value that it bounds. Labels have few values, and none is a caller's own
word. What could be counted is there at 0 before it happens. Asked for OpenMetrics
(`Accept: application/openmetrics-text`), the server adds exemplars to `adatape_request_duration_seconds`: the trace's
id, or the request's where traces are off. With `--slo-ms` every histogram of seconds has an edge at the service level.
"""


def labels() -> dict[str, Iterable[str]]:
    """Return the values that labels can have, where those are ours to name."""
    return {
        "`protocol`": PROTOCOLS,
        "`outcome` of a request": ("ok", *REASONS),
        "`outcome` of a sample": (OK, DEGRADED, *SAMPLE_FAILURES),
        "`reason` of an error": REASONS,
        "`reason` of a budget": BudgetReason,
        "`cause` of `adatape_degraded_total`": DEGRADED_CAUSES.values(),
        "`cause` of `adatape_shed_total`": SHED_CAUSES,
        "`cause` of `adatape_expired_total`": EXPIRED_CAUSES,
        "`cause` of `adatape_cancelled_total`": CANCELLED_CAUSES,
        "`cause` of `adatape_padding_flops_total`": PADDING_CAUSES,
        "`cause` of `adatape_wasted_flops_total`": WASTE_CAUSES,
        "`kind` of `adatape_flops_total`": ("useful", "padding", "wasted", "shadow"),
        "`stage`": ("embed", "read", "trunk"),
        "`bucket`": ("the family's buckets", "0 in the reader", "none where there was no answer"),
    }


def render() -> str:
    """Return the page."""
    metrics = sorted(Metrics().all, key=lambda meter: meter.name)
    rows = [_row(meter.name, KINDS[type(meter)], meter.labels, meter.about) for meter in metrics]
    gpu = [
        _row(name, "counter" if name.endswith("_total") else "gauge", ("gpu_uuid",), about)
        for name, (about, _) in FIGURES.items()
    ]
    values = [f"| {name} | {', '.join(f'`{value}`' for value in given)} |" for name, given in labels().items()]
    head = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    parts = [
        *(HEAD, "## The server's own\n", *head, *rows),
        *("\n## GPUs\n\nWhere `nvidia-ml-py` is installed and finds any; the last ones under Triton's names.\n",),
        *(*head, *gpu),
        "\n## The process\n\nThose of every Prometheus client: `process_cpu_seconds_total`,",
        "`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`,",
        "`process_start_time_seconds`.",
        "\n## Values of labels\n\n| label | values |\n|---|---|",
        *values,
    ]
    return "\n".join(parts) + "\n"


def _row(name: str, kind: str, names: Iterable[str], about: str) -> str:
    return f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in names)} | {about} |"


def main() -> None:
    """Write it."""
    PATH.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
