"""The conformance kit against a real Triton and this server, side by side, on the same repository."""

from pathlib import Path

import pytest

from loadtest.conformance.__main__ import main
from loadtest.process import start_server
from loadtest.triton import Triton
from server.models.manifest import Manifest

pytestmark = pytest.mark.triton


def test_the_two_differ_only_where_that_is_meant(
    repository: Path, triton: Triton, manifest: Manifest, capsys: pytest.CaptureFixture[str]
):
    with start_server("--model-repository", str(repository), "--intra-op-threads", "1") as server:
        address, grpc = server.url.removeprefix("http://"), server.grpc
        ours = ["--http", address, "--grpc", grpc, "--model", manifest.family]
        hints = ["--option", "max_tape=2", "--parameter", "max_tape=3"]
        status = main([*ours, *hints, "--differential", triton.http, triton.grpc])
    out = capsys.readouterr().out
    assert status == 0, out[out.find("DIFFERS") :][:2000] + out[: out.find("second")]
    assert out.count(" checks: ") == 2
    assert "meant    http.health.live_body" in out
