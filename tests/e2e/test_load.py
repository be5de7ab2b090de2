"""The load tests against a real server: each is a process of its own, because Locust patches the one it runs in."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtest.photos import find_samples
from loadtest.process import ROOT, Server, start_server
from loadtest.usage_errors import MISSED, USAGE_ERROR

FAKE = "adatape_fake"

pytestmark = pytest.mark.skipif(not find_samples(), reason="no package with sample photos in this environment")


@pytest.fixture(scope="module")
def fake() -> Iterator[Server]:
    with start_server("--backend", "fake") as running:
        yield running


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def grpc_of(server: Server) -> str:
    return server.grpc


def locust(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = ("--host", server.url, "--grpc", grpc_of(server))
    return run("locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary", *where, *arguments)


@pytest.mark.parametrize("form", ["classify", "binary"])
def test_an_open_run_leaves_a_report(fake, tmp_path, form):
    options = ("--rate", "60", "--seconds", "1", "--max-tape", "0,full", "--pictures", "8", "--form", form)
    done = run("loadtest.open", "--url", fake.url, *options, "--max-failed", "0", "--report", str(tmp_path))
    assert done.returncode == 0, done.stderr + done.stdout
    assert str(tmp_path / "report.html") in done.stdout
    zero, full = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert zero["shares"]["answered"] == full["shares"]["answered"] == 1.0
    assert zero["mean_tape"] == 0 < full["mean_tape"]
    assert full["agreement"]["value"] == 1.0


def test_an_open_run_is_judged_by_its_thresholds(fake, tmp_path):
    options = ("--rate", "30", "--seconds", "0.5", "--max-tape", "0", "--pictures", "4", "--max-p99-ms", "0.001")
    done = run("loadtest.open", "--url", fake.url, *options, "--report", str(tmp_path))
    assert done.returncode == MISSED, done.stderr
    assert "cap 0: p99 ms; got" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--model", "cat"), "404 model; got cat"), (("--photos", "nowhere"), "photos; got nowhere; expected a folder")],
)
def test_what_cannot_be_used_is_one_line(fake, arguments, message):
    done = run("loadtest.open", "--url", fake.url, *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (USAGE_ERROR, 1), done.stderr
    assert message in done.stderr


def test_locust_s_users_record_receipts(fake, tmp_path):
    options = ("-u", "3", "-r", "9", "-t", "3", "--max-tape", "0,8", "--slo-ms", "5000", "--stop-timeout", "5")
    done = locust(fake, *options, "--html", str(tmp_path / "x.html"), "--csv", str(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "x_stats.csv").open() as file:
        rows = {(row["Type"], row["Name"]): row for row in csv.DictReader(file)}
    for kind, form in (("POST", "classify"), ("POST", "binary"), ("gRPC", "grpc")):
        assert int(rows[kind, f"{form} cap 0"]["Request Count"]) > 0
        assert float(rows["RECEIPT", f"{form} cap 0: tape length"]["Average Response Time"]) == 0
        assert float(rows["RECEIPT", f"{form} cap 0: executed kFLOPs"]["Average Response Time"]) > 0
    sent = [int(row["Request Count"]) for (kind, _), row in rows.items() if kind in {"POST", "gRPC"}]
    assert (
        int(rows["", "Aggregated"]["Request Count"])
        == sum(sent)
        == int(rows["SLO", "answered in time"]["Request Count"])
    )
    assert "<html" in (tmp_path / "x.html").read_text()


def test_locust_s_tags_and_shapes_and_thresholds(fake):
    done = locust(fake, "--tags", "grpc", "--shape", "spike", "-u", "2", "-t", "2", "--slo-ms", "0.001")
    assert done.returncode == MISSED, done.stderr
    assert "threshold missed: attainment at 0.001 ms; got 0; expected at least 0.99" in done.stderr
    assert "grpc cap 0" in done.stderr
    assert "classify cap" not in done.stderr


def test_locust_without_a_server_ends_with_a_line(tmp_path):
    done = run("locust", "-f", "loadtest/locustfile.py", "--headless", "-t", "1", "--host", "http://127.0.0.1:1")
    assert done.returncode == USAGE_ERROR
    assert "expected one that runs: make serve" in done.stderr
    assert "Traceback" not in done.stderr
