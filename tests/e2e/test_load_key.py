"""The load tools against a server that asks for keys: each gets in with one, and none lets it be seen."""

import pytest

from loadtest.api_key import VARIABLE
from loadtest.photos import find_samples
from loadtest.process import start_server
from loadtest.usage_errors import USAGE_ERROR
from tests.e2e.test_load import locust, run
from tests.server.tenancy.tenants import ACME, ACME_HASH

pytestmark = pytest.mark.skipif(not find_samples(), reason="no package with sample photos in this environment")


@pytest.fixture(scope="module")
def closed():
    options = ("--backend", "fake", "--require-auth", "--quota-store", "memory")
    with start_server(*options, variables={"ADATAPE_API_KEYS": f"acme={ACME_HASH.line}"}) as running:
        yield running
    assert ACME not in running.log


def outputs(done, folder):
    return [done.stdout, done.stderr, *(path.read_text(errors="replace") for path in folder.iterdir())]


def test_an_open_run(closed, tmp_path, monkeypatch):
    options = ("--rate", "40", "--seconds", "0.5", "--max-tape", "0", "--pictures", "4", "--max-failed", "0")
    command = ("loadtest.open", "--url", closed.url, *options, "--report", str(tmp_path))
    assert run(*command).returncode == USAGE_ERROR
    monkeypatch.setenv(VARIABLE, ACME)
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert not any(ACME in text for text in outputs(done, tmp_path))


def test_locusts_users(closed, tmp_path):
    files = ("--html", str(tmp_path / "x.html"), "--csv", str(tmp_path / "x"))
    done = locust(closed, "-u", "3", "-r", "9", "-t", "2", "--max-failed", "0", "--api-key", ACME, *files)
    assert done.returncode == 0, done.stderr
    assert not any(ACME in text for text in outputs(done, tmp_path))


def test_the_demonstration(closed):
    done = run("loadtest.demo", "--url", closed.url, "--caps", "0", "--api-key", ACME)
    assert done.returncode == 0, done.stderr
    assert "adatape_fake" in done.stdout
    assert ACME not in done.stdout + done.stderr
