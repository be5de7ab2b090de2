"""`python -m monitoring.check`: a real server under load, watched by a real Prometheus and Alertmanager.

Asks every panel's queries, reads the state of every rule, looks for exemplars, and sets one alert off. Everything runs
on loopback and ends with the command.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.process import DEFAULT_SERVER, wait_until
from monitoring.check.panels import Panel, ask, load_panels
from monitoring.check.processes import Trial, missing
from monitoring.check.prometheus import AT_ONCE, Api

JOB = "adatape-serve"
SERVER = ("--slo-ms", "250", "--shadow-share", "0.5")
"""A service level and shadows, without which some panels have nothing to show."""
PATIENCE_S = 60.0
ALERT_S = 30.0
POLL_S = 0.2
LATENCY = "adatape_request_duration_seconds_bucket"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print panel by panel and rule by rule what came of it; return 1 where anything is wrong."""
    options = argparse.ArgumentParser(prog="python -m monitoring.check", description=__doc__)
    options.add_argument(
        "--patience-s", type=float, default=PATIENCE_S, help="until all must show (default: %(default)s)"
    )
    options.add_argument("--server", default=DEFAULT_SERVER, help="what starts the server (default: this Python)")
    parsed = options.parse_args(arguments)
    if missing():
        names = " and ".join(missing())
        print(f"monitoring; got no {names}; expected Debian's packages of these names", file=sys.stderr)
        return 1
    with TemporaryDirectory() as folder, Trial(Path(folder), parsed.server) as trial:
        return _watch(trial, parsed.patience_s)


def _watch(trial: Trial, patience_s: float) -> int:
    alertmanager = trial.start_alertmanager()
    server = trial.start_server(*SERVER)
    prometheus = trial.start_prometheus(server.url, alertmanager)
    trial.start_load(server.url)
    shown = server.text("/metrics")
    panels = [panel for panel in load_panels(JOB) if panel.can_show(shown)]
    _ask_all(panels, trial, prometheus, patience_s)
    rules = check_rules(prometheus)
    exemplars = len(prometheus.json("/api/v1/query_exemplars", query=LATENCY, **_last_minutes())["data"])
    trial.stop("load")
    trial.stop("server")
    alerts = wait_until(lambda: _firing(alertmanager), ALERT_S, f"alert {AT_ONCE}", POLL_S)
    return _report(panels, rules, exemplars, alerts)


def _ask_all(panels: list[Panel], trial: Trial, prometheus: Api, patience_s: float) -> None:
    """Ask until every panel shows something, or patience ends: rates need a few scrapes."""
    end_s = time.monotonic() + patience_s
    while True:
        trial.check_running()
        for panel in panels:
            if not panel.is_ok:
                ask(panel, prometheus)
        if all(panel.is_ok for panel in panels) or time.monotonic() > end_s:
            return
        time.sleep(1.0)


def check_rules(prometheus: Api) -> list[tuple[str, str]]:
    """Return each rule with its error; the empty string where it has been evaluated without one."""
    groups = prometheus.json("/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [(rule["name"], "" if rule["health"] == "ok" else rule.get("lastError") or rule["health"]) for rule in rules]


def _last_minutes() -> dict[str, str]:
    now = time.time()
    return {"start": str(now - 300), "end": str(now)}


def _firing(alertmanager: Api) -> list[str] | None:
    """Return the alerts that have reached the Alertmanager, once the one that was set off is among them."""
    names = [alert["labels"]["alertname"] for alert in alertmanager.json("/api/v2/alerts")]
    return names if AT_ONCE in names else None


def _report(panels: list[Panel], rules: list[tuple[str, str]], exemplars: int, alerts: list[str]) -> int:
    for panel in panels:
        print(panel.line())
    broken = [f"{name}: {error}" for name, error in rules if error]
    print(f"\nrules     {'OK' if rules and not broken else 'FAIL'}    {len(rules) - len(broken)} of {len(rules)}")
    for line in broken:
        print(f"  {line}")
    print(f"exemplars {'OK' if exemplars else 'FAIL'}    {exemplars} series")
    print(f"alerts    OK    in the Alertmanager: {', '.join(sorted(set(alerts)))}")
    failed = [panel for panel in panels if not panel.is_ok]
    print(f"panels    {'FAIL' if failed else 'OK'}    {len(panels) - len(failed)} of {len(panels)}")
    return int(bool(failed or broken or not rules or not exemplars))


if __name__ == "__main__":
    sys.exit(main())
