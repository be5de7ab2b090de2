"""onnxruntime reports home by default, unless it runs in CI: a server must not, wherever it runs."""

from pathlib import Path

import pytest

from loadtest.process import start_server
from tests.e2e.conftest import SHIPPED


@pytest.mark.skipif(not SHIPPED, reason="no family is shipped")
def test_a_server_leaves_no_trace_in_the_user_s_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    variables = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with start_server("--backend", "ort", variables=variables):
        pass
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == []
