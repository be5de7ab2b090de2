"""What every test shares: telemetry off, Hypothesis's profile, and markers that skip with a reason."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]

# onnxruntime reads this once, when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Shared machines stall: an example is judged by its outcome, not by its time. CI repeats what it saw.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if "CI" in os.environ else "local")


@pytest.fixture(autouse=True)
def _process_state() -> Iterator[None]:
    """Undo what a training command, run in this process, sets for all of it: no other test should see it."""
    num_threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
        if num_threads is not None:
            sys.modules["torch"].set_num_threads(num_threads)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip each marked test whose part is missing, with the reason."""
    asked: dict[str, Callable[[], str | None]] = {**MISSING, "slow": lambda: _missing_slow(config)}
    reasons = {name: missing() for name, missing in asked.items() if any(_is_marked(item, name) for item in items)}
    for item in items:
        for name, reason in reasons.items():
            if reason is not None and _is_marked(item, name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _is_marked(item: pytest.Item, name: str) -> bool:
    """Say whether a test bears a marker; its keywords would hold its parameters too."""
    return item.get_closest_marker(name) is not None


def _missing_slow(config: pytest.Config) -> str | None:
    return None if config.getoption("--slow") else "takes minutes: run with --slow"


def _missing_triton() -> str | None:
    return None if (ROOT / ".venv-triton/bin/python").exists() else "no Triton in .venv-triton: run make triton-setup"


def _missing_gpu() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "no torch in this environment"
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def _missing_browser() -> str | None:
    return None if shutil.which("chromium") else "no chromium on PATH"


def _missing_monitoring() -> str | None:
    absent = [tool for tool in ("prometheus", "prometheus-alertmanager") if shutil.which(tool) is None]
    return f"no {', '.join(absent)} on PATH" if absent else None


def _missing_image() -> str | None:
    absent = [tool for tool in ("buildah", "debootstrap", "curl", "unshare") if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} on PATH"
    return None if os.geteuid() == 0 else "mounting a root file system needs root"


def _missing_real_data() -> str | None:
    folder = os.environ.get("ADATAPE_DATA")
    if folder is None:
        return "ADATAPE_DATA names no folder"
    return None if Path(folder).is_dir() else f"ADATAPE_DATA; got {folder}; expected a folder"


MISSING: dict[str, Callable[[], str | None]] = {
    "triton": _missing_triton,
    "gpu": _missing_gpu,
    "browser": _missing_browser,
    "monitoring": _missing_monitoring,
    "image": _missing_image,
    "real_data": _missing_real_data,
}
