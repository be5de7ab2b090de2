"""The trial itself: what it makes of what it sees, and, where the real parts are here, that all of it is well."""

import json

import httpx
import pytest

from monitoring.check import __main__ as command
from monitoring.check import prometheus as configuration
from monitoring.check.panels import Panel, ask, load_panels
from monitoring.check.prometheus import RULES, Api, write_configuration


class Answering(Api):
    """An Api with answers to give."""

    def __init__(self, *answers):
        super().__init__("http://nowhere")
        self.answers = list(answers)

    def text(self, path, **arguments):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def result(*values):
    series = ", ".join(f'{{"metric": {{}}, "value": [0, "{value}"]}}' for value in values)
    return f'{{"data": {{"result": [{series}]}}}}'


def refusal(message):
    request, reply = httpx.Request("GET", "http://nowhere"), httpx.Response(400, json={"error": message})
    return httpx.HTTPStatusError("Bad Request", request=request, response=reply)


def asked(*answers):
    panel = Panel("board", "title", ["q"] * len(answers))
    ask(panel, Answering(*answers))
    return panel


def test_a_panel_with_numbers_for_each_query_is_ok():
    panel = asked(result(1, 2), result(0))
    assert panel.is_ok
    assert panel.line().endswith("OK    2 + 1 series")


@pytest.mark.parametrize("answers", [(result(),), (result(1), result()), (result("NaN"),)])
def test_an_empty_query_fails_its_panel(answers):
    assert not asked(*answers).is_ok


def test_a_query_that_prometheus_does_not_take_fails_with_its_words():
    panel = asked(refusal("parse error"))
    assert not panel.is_ok
    assert panel.line().endswith("FAIL  parse error")


def test_panels_of_what_a_server_has_not_are_left_out():
    panel = Panel("board", "title", ["sum(adatape_gpu_power_watts)"])
    assert not panel.can_show("# HELP adatape_gpu_power_watts Power drawn\nadatape_ready 1\n")
    assert panel.can_show('adatape_gpu_power_watts{gpu_uuid="GPU-0"} 90\n')
    assert Panel("board", "title", ["adatape_ready"]).can_show("")


def test_no_variable_is_left_in_a_query():
    panels = load_panels("some-job")
    assert len(panels) > 50
    exprs = [expr for panel in panels for expr in panel.exprs]
    assert [expr for expr in exprs if "$" in expr] == []
    assert all('job="some-job"' in expr for expr in exprs)


def test_rules_without_health_are_named_with_their_error():
    rules = [
        {"name": "a", "health": "ok"},
        {"name": "b", "health": "err", "lastError": "bad"},
        {"name": "c", "health": "unknown"},
    ]
    answer = json.dumps({"data": {"groups": [{"rules": rules}]}})
    assert command.check_rules(Answering(answer)) == [("a", ""), ("b", "bad"), ("c", "unknown")]


def test_the_configuration_is_ours_but_for_addresses_and_pace(tmp_path):
    path = write_configuration(tmp_path, server="http://127.0.0.1:1", alertmanager="http://127.0.0.1:2", rules=RULES)
    text = path.read_text()
    assert '"127.0.0.1:1"' in text
    assert '"127.0.0.1:2"' in text
    assert "15s" not in text
    for rules in RULES.glob("*.yml"):
        ours, copied = rules.read_text().splitlines(), (tmp_path / "rules" / rules.name).read_text().splitlines()
        changed = [(a, b) for a, b in zip(ours, copied, strict=True) if a != b]
        assert changed == ([("        for: 2m", "        for: 0s")] if rules.stem == "alerts" else [])
    assert f"alert: {configuration.AT_ONCE}\n" in (RULES / "alerts.yml").read_text()


def test_without_its_parts_it_says_which_are_missing(monkeypatch, capsys):
    monkeypatch.setattr(command, "missing", lambda: ["prometheus"])
    assert command.main([]) == 1
    assert "got no prometheus; expected Debian's packages" in capsys.readouterr().err


@pytest.mark.monitoring
def test_every_panel_has_data_every_rule_is_evaluated_and_an_alert_arrives(capsys):
    status = command.main([])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "FAIL" not in said
    assert "in the Alertmanager: AdatapeNoScrape" in said
