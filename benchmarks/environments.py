"""Python environments for tools and servers that cannot use ours, each from exact versions."""

import subprocess
import venv
from pathlib import Path

from loadtest.process import ROOT


def environment(name: str, requirements: Path) -> Path:
    """Return the environment `.venv-NAME`, created from its requirements where it is not there yet.

    Raises: SystemExit if pip cannot install them; it has said why by then.
    """
    folder = ROOT / f".venv-{name}"
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements]
        if subprocess.run(install, check=False).returncode:
            raise SystemExit(f"environment; got an error of pip; expected it to install {requirements.name}")
        ready.touch()
    return folder
