"""Sends the queries of every panel of every dashboard to a real Prometheus."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from monitoring.check.prometheus import Api

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
RATE_INTERVAL = "10s"
"""Ten scrapes of a trial's; Grafana takes at least four."""
EVERYTHING = ".*"
OPTIONAL = ("adatape_gpu_", "adatape_tenant_", "adatape_tenants_", "adatape_quota_", "adatape_tls_")
"""How metrics begin that a server shows only where it has a GPU, tenants or TLS."""
_VARIABLE = re.compile(r"\$(\w+)")


@dataclass(slots=True)
class Panel:
    """One panel, and what came of asking its queries."""

    dashboard: str
    title: str
    exprs: list[str]
    counts: list[int] = field(default_factory=list)
    error: str = ""

    @property
    def is_ok(self) -> bool:
        return not self.error and len(self.counts) == len(self.exprs) and all(self.counts)

    def can_show(self, exposition: str) -> bool:
        """Say whether a server that shows these metrics has what the panel is about."""
        lines = exposition.splitlines()
        begins = [begin for begin in OPTIONAL if any(begin in expr for expr in self.exprs)]
        return all(any(line.startswith(begin) for line in lines) for begin in begins)

    def line(self) -> str:
        """Return what to print of it."""
        series = " + ".join(map(str, self.counts)) + " series"
        verdict = f"OK    {series}" if self.is_ok else f"FAIL  {self.error or series}"
        return f"{self.dashboard:20} {self.title:32} {verdict}"


def load_panels(job: str) -> list[Panel]:
    """Return the panels of the committed dashboards, for one job and everything in it."""
    dashboards = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))]
    return [panel for dashboard in dashboards for panel in _panels(dashboard, job)]


def ask(panel: Panel, prometheus: Api) -> None:
    """Ask all of a panel's queries; an answer without any number is none."""
    panel.counts, panel.error = [], ""
    try:
        for expr in panel.exprs:
            results = prometheus.query(expr)
            panel.counts.append(sum(not isnan(float(result["value"][1])) for result in results))
    except ValueError as error:
        panel.error = str(error)


def _panels(dashboard: dict[str, Any], job: str) -> Iterator[Panel]:
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            exprs = [_substitute(target["expr"], job) for target in panel["targets"]]
            yield Panel(dashboard["uid"], panel["title"], exprs)


def _substitute(expr: str, job: str) -> str:
    values = {"job": job, "__rate_interval": RATE_INTERVAL}
    return _VARIABLE.sub(lambda match: values.get(match.group(1), EVERYTHING), expr)
