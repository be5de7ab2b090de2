"""README, executed: curl lines against a real server, other commands by name and option, tables by content."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from loadtest.process import ROOT, start_server

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEFAULT = "localhost:8000"


def blocks(language: str) -> list[str]:
    """Return the contents of README's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    """Return README's commands that start with a program."""
    return [line for line in all_commands() if shlex.split(line)[0] == program]


def all_commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start the real server, with the shipped families if there are any; give its host and port."""
    shipped = any(ROOT.glob("model_repository/*/*/manifest.json"))
    with start_server("--backend", "ort" if shipped else "fake") as running:
        yield running.url.removeprefix("http://")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that README's commands name."""
    path = tmp_path_factory.mktemp("readme")
    Image.linear_gradient("L").convert("RGB").save(path / "photo.jpg")
    shutil.copy(ROOT / "README.md", path)
    return path


def curl(command: str, server: str, folder: Path) -> tuple[int, Any]:
    """Run one of README's curl lines as it stands; return the status and the JSON answer."""
    words = [word.replace(DEFAULT, server) for word in shlex.split(command, comments=True)]
    extra = ["--silent", "--show-error", "--write-out", "\n%{http_code}"]
    done = subprocess.run([*words, *extra], cwd=folder, capture_output=True, text=True, check=True)
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(body)


def get(server: str, path: str) -> bytes:
    return httpx.get(f"http://{server}{path}", timeout=10, follow_redirects=True).raise_for_status().content


# --- Commands --------------------------------------------------------------------------------


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert {shlex.split(line)[0] for line in all_commands()} == {"curl", "make", ".venv-train/bin/python"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on PATH")
@pytest.mark.parametrize("command", commands("curl"))
def test_curl_lines_answer_as_they_say(command: str, server: str, folder: Path) -> None:
    told = re.search(r"# (\d{3})$", command)
    status, answer = curl(command, server, folder)
    assert status == (int(told[1]) if told else 200), answer
    if told:
        assert list(answer) == ["error"]
        return
    cap = re.search(r"max_tape=(\d+)", command)
    assert cap is not None
    assert [result["receipt"]["tape_length"] <= int(cap[1]) for result in answer["results"]] == [True]


@pytest.mark.parametrize("command", sorted({*commands("make"), *re.findall(r"`(make [^`]+)`", README)}))
def test_make_lines_name_real_targets(command: str) -> None:
    words = [*shlex.split(command), "--dry-run", f"PYTHON={sys.executable}"]
    done = subprocess.run(words, cwd=ROOT, env=outside_make(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def outside_make() -> dict[str, str]:
    """Return this environment without what a make that runs these tests would pass on."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


@pytest.mark.skipif(find_spec("torch") is None, reason="no torch in this environment")
@pytest.mark.parametrize("command", commands(".venv-train/bin/python"))
def test_python_lines_name_real_commands_and_options(command: str) -> None:
    _, flag, module, *arguments = shlex.split(command)
    assert flag == "-m"
    text = help_of(module)
    for argument in arguments:
        if argument.startswith("--"):
            assert re.search(rf"{argument}\b", text), f"{module} has no {argument}"


@cache
def help_of(module: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- Tables and samples ----------------------------------------------------------------------


def test_the_parameter_table_is_the_api_s(server: str) -> None:
    described = json.loads(get(server, "/openapi.json"))["paths"]["/v1/classify"]["post"]["parameters"]
    table = re.search(r"^\| parameter \|.*?\n\n", README, flags=re.MULTILINE | re.DOTALL)
    assert table is not None
    told = re.findall(r"^\| `(\w+)` \|", table[0], flags=re.MULTILINE)
    assert sorted(told) == sorted(item["name"] for item in described if item["in"] == "query")


def test_the_table_of_calls_is_the_api_s(server: str) -> None:
    described = json.loads(get(server, "/openapi.json"))["paths"]
    calls = {f"{verb.upper()} {path}" for path, verbs in described.items() for verb in verbs}
    assert set(re.findall(r"`((?:GET|POST) /[^`]*)`", README)) == calls | {"GET /", "GET /docs", "GET /openapi.json"}


def test_the_calls_in_the_table_answer(server: str) -> None:
    model = json.loads(get(server, "/v1/models"))["models"][0]["name"]
    for path in re.findall(r"`GET (/[^`]*)`", README):
        assert get(server, path.replace("{model}", model))


def test_the_sample_answer_has_the_shape_of_a_real_one(server: str, folder: Path) -> None:
    (sample,) = (json.loads(block) for block in blocks("json"))
    _, answer = curl(f'curl -F file=@photo.jpg "{DEFAULT}/v1/classify?max_tape=8&top_k=2"', server, folder)
    assert shape(sample) == shape(answer)


def shape(value: Any) -> Any:
    """Return a JSON value with each leaf replaced by nothing."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else None


def test_the_tree_names_what_there_is() -> None:
    (tree,) = blocks("text")
    named = [line.split()[0] for line in tree.splitlines()]
    assert [name for name in named if not (ROOT / name).is_dir()] == []
    packages = {path.parent.name + "/" for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(named)
