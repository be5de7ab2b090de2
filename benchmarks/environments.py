"""Environments of tools and servers that must not share ours, each from exact pins."""

import subprocess
import venv
from pathlib import Path

from benchmarks.booting import ROOT


def environment(name: str, requirements: Path) -> Path:
    """Return the environment `.venv-NAME`, created from its requirements where it is not there yet."""
    folder = ROOT / f".venv-{name}"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        ready.touch()
    return folder
