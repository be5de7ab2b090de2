"""The command: what it prints, writes and returns."""

import json
from pathlib import Path

import pytest

from loadtest.conformance.__main__ import main
from loadtest.conformance.deliberate import DELIBERATE
from loadtest.conformance.registry import MUST, Check, add
from loadtest.process import start_server
from tests.loadtest.conformance.conftest import CHECKS
from tests.loadtest.conformance.proxies import forwarded, serving, with_header
from tests.server.tenancy.tenants import ADMIN, write_tenants

MODEL = ("--model", "adatape_fake", "--option", "max_tape=2", "--parameter", "max_tape=4")


def test_the_server_has_no_failures(http: str, grpc_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = tmp_path / "report.json"
    assert main(["--http", http, "--grpc", grpc_address, *MODEL, "--json", str(report)]) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert "FAIL  " not in out
    assert f"{len(CHECKS)} checks: " in out
    results = json.loads(report.read_text())["results"]
    assert {result["name"] for result in results} == set(CHECKS)
    assert {"PASS", "SKIP"} >= {result["verdict"] for result in results}


def test_a_server_that_asks_for_a_key_is_shown_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ("--require-auth", "--tenants-file", str(write_tenants(tmp_path)), "--quota-store", "memory")
    with start_server("--backend", "fake", *arguments) as running:
        address = ["--http", running.url.removeprefix("http://"), "--grpc", running.grpc, *MODEL]
        assert main(address) == 2
        assert "got status 401" in capsys.readouterr().err
        assert main([*address, "--api-key", ADMIN]) == 0, capsys.readouterr().out
    output = capsys.readouterr()
    assert "0 FAIL" in output.out
    assert ADMIN not in output.out + output.err


def test_a_failure_is_explained_and_returned(http: str, capsys: pytest.CaptureFixture[str]):
    with serving(forwarded(http, lambda _, response: with_header(response, "allow", None))) as address:
        assert main(["--http", address, *MODEL, "--only", "http.error.*"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  MUST           http.error.allow\n" in out
    assert "got Allow None; expected POST among them" in out
    assert "1 FAIL, 0 SKIP (1 MUST)" in out


def test_without_grpc_its_checks_are_skipped(http: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--http", http, *MODEL, "--only", "grpc.infer.*"]) == 0
    assert "0 PASS, 0 FAIL" in capsys.readouterr().out


def test_the_only_model_is_found(http: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--http", http, "--only", "http.health.live"]) == 0
    assert "model adatape_fake" in capsys.readouterr().out


def test_a_server_does_not_differ_from_itself(http: str, grpc_address: str, capsys: pytest.CaptureFixture[str]):
    arguments = ["--http", http, "--grpc", grpc_address, *MODEL, "--differential", http, grpc_address]
    assert main([*arguments, "--only", "*.health.*", "--only", "grpc.infer.id"]) == 0
    assert "\n0 differences" in capsys.readouterr().out


def test_a_difference_that_nobody_explains_is_returned(
    http: str, grpc_address: str, capsys: pytest.CaptureFixture[str]
):
    def slower_to_say(request, response):
        return with_header(response, "content-type", None) if request.path == "/v2" else response

    with serving(forwarded(http, slower_to_say)) as address:
        arguments = ["--http", http, *MODEL, "--differential", address, grpc_address]
        assert main([*arguments, "--only", "http.server.*"]) == 1
    assert "DIFFERS  http.server.content_type" in capsys.readouterr().out


def test_no_server_is_another_status(capsys: pytest.CaptureFixture[str]):
    assert main(["--http", "127.0.0.1:9", *MODEL]) == 2
    assert "expected a connection to 127.0.0.1:9" in capsys.readouterr().err


def test_the_list_names_every_check(capsys: pytest.CaptureFixture[str]):
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CHECKS)


def test_levels_and_names_choose(capsys: pytest.CaptureFixture[str]):
    assert main(["--list", "--level", "robust"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all("  ROBUST  " in line for line in lines)
    assert main(["--list", "--only", "grpc.*", "--skip", "grpc.[!h]*"]) == 0
    assert {line.split(".")[1] for line in capsys.readouterr().out.splitlines()} == {"health"}


def test_what_is_meant_to_differ_is_checked():
    assert set(DELIBERATE) - set(CHECKS) == set()


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match=r"check name; got http\.infer\.flat twice"):
        add(Check("http.infer.flat", MUST, "Again.", "nowhere", lambda _: None))
