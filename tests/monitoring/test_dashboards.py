"""The committed dashboards are what the code says, name only metrics that exist, and keep Grafana's conventions."""

import json
import re
from pathlib import Path

import pytest
import yaml

from monitoring.dashboards.__main__ import FOLDER, files
from monitoring.dashboards.boards import BOARDS
from monitoring.dashboards.plan import Kind
from server.metrics import Metrics
from server.metrics.gpu import FIGURES

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "monitoring/prometheus/rules").glob("*.yml"))
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
OTHERS |= {"process_start_time_seconds"}
NAME = re.compile(r"\b(?:adatape|process|nv)(?:_[a-z0-9]+)+\b")
RECORDED = re.compile(r"\badatape:[a-z_]+:ratio_rate\d+[mhd]\b")


def metric_names():
    """Return every name that the server may show, with those of a histogram's parts."""
    names = set(FIGURES) | OTHERS
    for meter in Metrics().all:
        names |= {meter.name + suffix for suffix in ("", "_bucket", "_sum", "_count")}
    return names


def recorded_names():
    groups = yaml.safe_load((ROOT / "monitoring/prometheus/rules/recording.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"]}


def dashboards():
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_generating_them_again_gives_the_committed_files():
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == files(), "python -m monitoring.dashboards was not run"


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_grafanas_conventions_are_kept(dashboard):
    assert dashboard["uid"].startswith("adatape-")
    assert dashboard["schemaVersion"] >= 38
    assert {"DS_PROMETHEUS", "job"} <= {variable["name"] for variable in dashboard["templating"]["list"]}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_queries_use_the_variables_and_the_rate_interval(dashboard):
    known = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expr = target["expr"]
            assert set(re.findall(r"\$(\w+)", expr)) <= known, expr
            assert 'job="$job"' in expr, expr
            assert set(re.findall(r"\[(.+?)\]", expr)) <= {"$__rate_interval"}, expr


def test_every_name_in_dashboards_and_rules_exists():
    texts = [path.read_text() for path in RULES]
    texts += [target["expr"] for board in dashboards() for panel in panels(board) for target in panel["targets"]]
    text = "\n".join(texts)
    used = set(NAME.findall(re.sub(r"runbook_url.*|alert: .*", "", text)))
    assert used
    assert used - metric_names() == set()
    assert set(RECORDED.findall(text)) == recorded_names()


def test_every_metric_of_the_server_is_on_a_dashboard():
    exprs = [query.expr for board in BOARDS for chart in board.charts for query in chart.queries]
    recorded = (ROOT / "monitoring/prometheus/rules/recording.yml").read_text()
    text = "\n".join([*exprs, recorded])
    assert [meter.name for meter in Metrics().all if meter.name not in text] == []


def test_titles_are_told_apart_and_rows_are_full():
    for board in BOARDS:
        titles = [chart.title for chart in board.charts]
        assert len(set(titles)) == len(titles), board.uid
        for title, charts in board.rows:
            assert sum(chart.width for chart in charts) % 24 == 0, (board.uid, title)
            assert all(chart.height == (4 if chart.kind is Kind.NUMBER else 8) for chart in charts)


def test_tapes_are_heat_maps():
    adaptive = next(board for board in BOARDS if board.uid == "adatape-adaptive")
    maps = {chart.title for chart in adaptive.charts if chart.kind is Kind.HEATMAP}
    assert {"Tape used", "Tape wanted", "Cap in effect"} <= maps


def test_provisioning_names_the_folder_that_the_image_mounts():
    provider = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/dashboards/provider.yml").read_text())
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards"
