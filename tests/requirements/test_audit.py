"""The audit of the locks says what it found, and never passes in silence what it could not check."""

import json
import subprocess

import pytest

from requirements import audit

SAFE = {"name": "numpy", "version": "2.4.0", "vulns": []}
VULNERABLE = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]}
UNKNOWN = {"name": "uvicorn", "skip_reason": "Dependency not found"}


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch):
    """Put an answer in pip-audit's mouth."""

    def put(*dependencies: dict, stderr: str = "", is_broken: bool = False) -> None:
        stdout = "" if is_broken else json.dumps({"dependencies": dependencies})
        done = subprocess.CompletedProcess([], 1 if is_broken else 0, stdout, stderr)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    return put


def test_all_checked_and_safe_is_a_pass(answer, capsys):
    answer(SAFE)
    assert audit.main(["server", "--strict"]) == 0
    assert "audit: PASS: 1 of 1 packages checked, 0 vulnerable" in capsys.readouterr().out


def test_a_vulnerable_package_fails_and_is_named(answer, capsys):
    answer(SAFE, VULNERABLE, UNKNOWN)
    assert audit.main(["server"]) == 1
    out = capsys.readouterr().out
    assert "VULNERABLE pillow 1.0: PYSEC-1, PYSEC-2" in out
    assert "audit: FAIL: 2 of 3 packages checked, 1 vulnerable" in out


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--strict"], 1)])
def test_what_the_database_does_not_know_is_said(answer, capsys, options, status):
    answer(SAFE, UNKNOWN)
    assert audit.main(["server", *options]) == status
    out = capsys.readouterr().out
    assert "NOT CHECKED uvicorn and 0 more: Dependency not found" in out
    assert "audit: NOT CHECKED: 1 of 2 packages checked" in out


@pytest.mark.parametrize(("options", "status"), [([], 0), (["--strict"], 1)])
def test_a_database_out_of_reach_is_said(answer, capsys, options, status):
    answer(is_broken=True, stderr="Traceback\nConnectionError: no such host")
    assert audit.main(["server", *options]) == status
    out = capsys.readouterr().out
    assert "NOT CHECKED all of server.txt" in out
    assert "ConnectionError: no such host" in out


def test_a_database_that_does_not_answer_is_said(monkeypatch, capsys):
    def hang(command, **_):
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert audit.main(["server"]) == 0
    assert "no answer from the database" in capsys.readouterr().out
