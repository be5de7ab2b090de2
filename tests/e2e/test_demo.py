"""The demo client against a real server."""

import subprocess
import sys

import pytest

from loadtest.demo import COLUMNS
from loadtest.photos import find_samples
from loadtest.process import ROOT
from tests.e2e.test_classify import picture


def run(*arguments):
    command = [sys.executable, "-m", "loadtest.demo", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_demo_prints_a_table(server, tmp_path):
    (tmp_path / "mine.jpg").write_bytes(picture())
    shown = run("--url", server.url, "--photos", str(tmp_path / "mine.jpg"), "--caps", "0,2")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert sum(line.split("  ")[0] == "photo" for line in lines) >= 1
    assert " ".join(lines[2].split()) == " ".join(COLUMNS)
    assert [line.split()[:2] for line in lines[3:5]] == [["mine.jpg", "0"], ["mine.jpg", "2"]]


@pytest.mark.skipif(not find_samples(), reason="no package with sample photos in this environment")
def test_the_demo_finds_sample_photos(server):
    shown = run("--url", server.url, "--caps", "1")
    assert shown.returncode == 0, shown.stderr
    assert all(photo.name in shown.stdout for photo in find_samples())


def test_the_demo_says_what_is_missing(server):
    assert "expected one that runs: make serve" in run("--url", "http://127.0.0.1:1").stderr
    assert "404 model; got cat" in run("--url", server.url, "--model", "cat").stderr
