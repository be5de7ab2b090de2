"""The documents, executed: curl lines and Python of the API pages, and the four commands from photos to a family."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from PIL import Image

from loadtest.process import Server, start_server
from tests.conftest import ROOT

HTTP, GRPC = "localhost:8000", "localhost:8001"
SHIPPED = ("quick-start.md", "api.md")
CLASSES = {"dark": (0, 60), "light": (190, 255), "striped": (0, 255)}
LITTLE = {
    "adatape.train": ["--set", "recipe.epochs=1", "--set", "recipe.batch_size=8", "--threads", "1"],
    "adatape.evaluate": ["--caps", "0", "1", "16", "--threads", "1"],
    "export": ["--max-batch-size", "2", "--num-buckets", "2"],
}
"""Options that make each command quick and change nothing else."""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def lines(page: str, program: str) -> list[str]:
    """Return a page's commands that start with a program."""
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith(program)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_server() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "photo.jpg")
    return tmp_path


def addressed(text: str, server: Server) -> str:
    """Return a document's text with the addresses of a server that runs."""
    return text.replace(HTTP, server.url.removeprefix("http://")).replace(GRPC, server.grpc)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
@pytest.mark.parametrize("command", [line for page in SHIPPED for line in lines(page, "curl")])
def test_curl_lines_answer_as_they_say(command: str, server: Server, folder: Path) -> None:
    told = re.search(r"# (\d{3})$", command)
    whole = (
        addressed(command.split("  #", maxsplit=1)[0], server) + " --silent --show-error --write-out '\n%{http_code}'"
    )
    done = subprocess.run(["bash", "-c", whole], cwd=folder, capture_output=True, text=True, check=True)
    body, status = done.stdout.rsplit("\n", 1)
    assert status == (told[1] if told else "200"), body
    assert list(json.loads(body)) == ["error"] if told else "error" not in json.loads(body)


@pytest.mark.parametrize("program", blocks("api.md", "python"))
def test_python_runs_as_it_stands(program: str, server: Server, folder: Path) -> None:
    command = [sys.executable, "-c", addressed(program, server)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# --- Your own photos -------------------------------------------------------------------------


def make_photos(root: Path) -> None:
    """A few small pictures a class, in folders named for their classes."""
    for name, (low, high) in CLASSES.items():
        (root / name).mkdir(parents=True)
        for number in range(4):
            grey = (
                Image.linear_gradient("L")
                .rotate(90 * number)
                .point(lambda v, low=low, high=high: low + v * (high - low) // 255)
            )
            grey.convert("RGB").resize((90 + number, 70)).save(root / name / f"{number}.jpg")


@pytest.mark.skipif(find_spec("torch") is None, reason="no torch in this environment")
def test_four_commands_make_a_served_family_of_a_folder_of_photos(tmp_path: Path) -> None:
    (commands,) = (block.splitlines() for block in blocks("training.md", "bash") if "adatape.train" in block)
    assert [shlex.split(line)[-1] for line in commands] == ["runs/mine", "photos", "model_repository", "serve"]
    make_photos(tmp_path / "photos")
    for command in commands[:3]:
        _, flag, module, *rest = shlex.split(command)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        words = [sys.executable, flag, module, *rest, *LITTLE[module]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        if module != "export":
            following = commands[commands.index(command) + 1].removeprefix(".venv-train/bin/")
            assert f"next: {following}" in done.stdout
    with start_server("--model-repository", str(tmp_path / "model_repository")) as running:
        reply = httpx.post(
            f"{running.url}/v1/classify?model=adatape_mine&top_k=3",
            content=(tmp_path / "photos/dark/0.jpg").read_bytes(),
            headers={"Content-Type": "image/jpeg"},
            timeout=30,
        )
    (result,) = reply.raise_for_status().json()["results"]
    assert {prediction["label"] for prediction in result["predictions"]} == CLASSES.keys()
