"""The image, built by executing its Dockerfile on a stand-in base, and started as production would."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.image
@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_the_image_builds_starts_read_only_and_answers(target: str) -> None:
    command = [sys.executable, "deploy/image/check.py", "--target", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("image: OK")
