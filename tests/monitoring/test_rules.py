"""Prometheus' own tools on our rules, and the promise that every alert is tested and explained."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "monitoring/prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="needs amtool, of Debian's package prometheus-alertmanager"
)


def run(*command):
    done = subprocess.run(command, cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def rules(name):
    groups = yaml.safe_load((PROMETHEUS / f"rules/{name}.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@needs_promtool
def test_the_configuration_is_sound():
    status, said = run("promtool", "check", "config", "prometheus.yml")
    assert status == 0, said


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path):
    status, said = run("promtool", "test", "rules", str(path.relative_to(PROMETHEUS)))
    assert status == 0, said


@needs_amtool
def test_the_alertmanager_takes_its_configuration():
    status, said = run("amtool", "check-config", "../alertmanager/alertmanager.yml")
    assert status == 0, said


def test_every_alert_is_shown_to_fire_and_to_be_silent():
    fired, silent = set(), set()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fired if case["exp_alerts"] else silent).add(case["alertname"])
    names = {rule["alert"] for rule in rules("alerts")}
    assert names
    assert fired == names
    assert silent == names


def test_every_alert_has_its_section_in_the_runbook_and_no_other_has():
    headings = set(re.findall(r"^### (\w+)$", (ROOT / "docs/runbook.md").read_text(), flags=re.MULTILINE))
    alerts = rules("alerts")
    assert headings == {rule["alert"] for rule in alerts}
    for rule in alerts:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_recorded_names_say_level_what_and_operation():
    names = [rule["record"] for rule in rules("recording")]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"adatape:[a-z_]+:ratio_rate\d+[mhd]", name)] == []
