"""`python -m server`: a start that is quick and says what it serves, and one clear line where it cannot."""

import re
import socket
import subprocess

import httpx
import pytest

from loadtest.process import ROOT, server_command, server_environment, start_server
from server.__main__ import main
from server.settings import Settings


def start(*arguments, **extra):
    """Start a server that is not expected to come up."""
    return subprocess.run(
        [*server_command(), *arguments],
        cwd=ROOT,
        env=server_environment(extra),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_explains_every_setting():
    shown = start("--help")
    assert shown.returncode == 0
    assert "curl -F file=@photo.jpg" in shown.stdout
    text = " ".join(shown.stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert " ".join(field.description.split()[:6]) in text


def test_it_says_what_it_serves_and_stops_cleanly():
    with start_server("--backend", "fake") as running:
        assert httpx.get(f"{running.url}/readyz").json()["models"] == ["adatape_fake"]
        (line,) = [line for line in running.lines if "serving url=" in line]
        assert re.search(
            r"url=http://127\.0\.0\.1:\d+ families=adatape_fake device=FakeExecutionProvider docs=\S+/docs", line
        )
        assert running.stop() == 0
    assert "Traceback" not in running.log


def test_it_is_ready_in_under_five_seconds():
    with start_server("--backend", "fake") as running:
        assert float(re.search(r"seconds=([\d.]+) version", running.log).group(1)) < 5


def test_settings_may_come_from_the_environment():
    with start_server(variables={"ADATAPE_BACKEND": "fake", "ADATAPE_MAX_BODY_BYTES": "10"}) as running:
        response = httpx.post(f"{running.url}/v1/classify", content=b"x" * 11)
    assert response.status_code == 413


def test_a_used_port_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stopped = start("--backend", "fake", "--port", str(port))
    assert stopped.returncode == 1
    assert stopped.stderr == (
        f"address 127.0.0.1:{port}; got Address already in use; expected a free one: try another --port\n"
    )


def test_an_unknown_host_is_one_line():
    stopped = start("--backend", "fake", "--host", "no.such.host.invalid", "--insecure")
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("address no.such.host.invalid:0; got ")
    assert stopped.stderr.count("\n") == 1


def test_a_missing_repository_is_one_line(tmp_path):
    stopped = start("--model-repository", str(tmp_path / "nowhere"))
    assert stopped.returncode == 1
    assert "nowhere" in stopped.stderr
    assert stopped.stderr.count("\n") == 1


def test_no_complete_family_is_explained_family_by_family(tmp_path):
    for name, text in {"adatape_a": "{}", "adatape_b": "not json"}.items():
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "manifest.json").write_text(text)
    stopped = start("--model-repository", str(tmp_path))
    assert stopped.returncode == 1
    first, *broken = stopped.stderr.splitlines()
    assert first == f"model repository; got no complete family in {tmp_path}; expected at least one"
    assert [line.split(":")[0] for line in broken] == ["  adatape_a/1", "  adatape_b/1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "99999"), "port; got 99999; expected: Input should be less than or equal to 65535\n"),
        (("--max-files", "0"), "max_files; got 0; expected: Input should be greater than 0\n"),
        (("--max-request-samples", "9", "--max-pending-samples", "3"), "max_request_samples; got 9; expected at most"),
    ],
)
def test_a_wrong_setting_is_named(arguments, message):
    stopped = start("--backend", "fake", *arguments)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(message)


def test_an_unknown_option_is_refused():
    stopped = start("--backend", "fake", "--prot", "1")
    assert stopped.returncode == 2
    assert "unrecognized arguments: --prot 1" in stopped.stderr


def test_an_unknown_variable_is_refused():
    stopped = start("--backend", "fake", ADATAPE_PROT="1")
    assert stopped.returncode == 1
    assert "ADATAPE_PROT" in stopped.stderr
    assert stopped.stderr.count("\n") == 1


SECRET_ADDRESSES = (
    ("--quota-store", "redis:/:hunter2@host"),
    ("--quota-store", "unix://:hunter2@/run/redis.sock"),
    ("--quota-store", "hunter2"),
    ("--otlp-endpoint", "ftp://user:hunter2@host"),
    ("--triton-url", "user:hunter2@host:8001"),
    ("--quota-stor=redis://:hunter2@host", "x"),
    ("--redis-password", "hunter2"),
)


@pytest.mark.parametrize(("option", "value"), SECRET_ADDRESSES, ids=range(len(SECRET_ADDRESSES)))
def test_a_wrong_setting_does_not_show_its_secret(option, value, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--backend", "fake", option, value])
    told = str(stopped.value) + "".join(capsys.readouterr())
    assert "hunter2" not in told
    assert "got " in told or "unrecognized arguments" in told


@pytest.mark.parametrize("name", ["QUOTA_STORE", "OTLP_ENDPOINT", "API_KEYS"])
def test_a_secret_is_in_no_dump_of_the_settings(name, monkeypatch):
    monkeypatch.setenv(
        f"ADATAPE_{name}", "http://:hunter2@host" if name == "OTLP_ENDPOINT" else "redis://:hunter2@host"
    )
    assert "hunter2" not in repr(Settings())
    monkeypatch.setenv("ADATAPE_QUOTA_STORE", "redis:/:hunter2@host")
    with pytest.raises(ValueError, match="quota_store") as wrong:
        Settings()
    assert "hunter2" not in str(wrong.value)
