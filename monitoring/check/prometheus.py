"""Queries to Prometheus and Alertmanager, and the configuration that the check gives them."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

FOLDER = Path(__file__).parents[1] / "prometheus"
RULES = FOLDER / "rules"
TIMEOUT_S = 30.0
QUICK = "1s"
"""Between two scrapes and between two evaluations: a trial has less patience than a watch."""
AT_ONCE = "AdatapeNoScrape"
"""The alert that the trial sets off: its `for` is cut to nothing, so that it need not be waited for."""

Json = dict[str, Any]


class Api:
    """The HTTP API of Prometheus or of Alertmanager."""

    def __init__(self, url: str) -> None:
        self.url = url

    def is_ready(self) -> bool:
        """Say whether it answers."""
        try:
            self.text("/-/ready")
        except httpx.HTTPError:
            return False
        return True

    def query(self, expr: str) -> list[Json]:
        """Return the series of an instant query.

        Raises: ValueError, with what Prometheus says, for an expression that it does not take.
        """
        try:
            result: list[Json] = self.json("/api/v1/query", query=expr)["data"]["result"]
        except httpx.HTTPStatusError as error:
            raise ValueError(error.response.json()["error"]) from error
        return result

    def json(self, path: str, **arguments: str) -> Any:
        """Return a parsed answer."""
        return json.loads(self.text(path, **arguments))

    def text(self, path: str, **arguments: str) -> str:
        """Return an answer as it came."""
        reply = httpx.get(f"{self.url}{path}", params=arguments, timeout=TIMEOUT_S, trust_env=False)
        return reply.raise_for_status().text


def write_configuration(folder: Path, *, server: str, alertmanager: str, rules: Path) -> Path:
    """Write our configuration for this server and this Alertmanager; return its path."""
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    replaced = {
        "server:8000": urlsplit(server).netloc,
        "alertmanager:9093": urlsplit(alertmanager).netloc,
        "interval: 15s": f"interval: {QUICK}",
    }
    for former, present in replaced.items():
        assert former in text, "The configuration has changed, and this has not. This is a bug."
        text = text.replace(former, present)
    copies = folder / "rules"
    copies.mkdir()
    for path in rules.glob("*.yml"):
        (copies / path.name).write_text(_hurry(path.read_text(encoding="utf-8")), encoding="utf-8")
    configuration = folder / "prometheus.yml"
    configuration.write_text(text, encoding="utf-8")
    return configuration


def _hurry(rules: str) -> str:
    before, name, after = rules.partition(f"alert: {AT_ONCE}\n")
    return before + name + after.replace("for: 2m", "for: 0s", 1)
