"""`python -m adatape.golden` on files made by the numpy oracle, good and spoilt ones, and on the official ones."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from adatape.golden import main
from tests.adatape.golden_files import CASES, make_golden, official


def write(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / f"{name}.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def good() -> dict[str, np.ndarray]:
    return make_golden(CASES["input_gap"])


@pytest.mark.parametrize("case", CASES)
def test_the_model_agrees_with_the_oracle(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, case, make_golden(CASES[case]))
    status, out = main([str(tmp_path)]), capsys.readouterr().out
    assert status == 0, out
    assert out.startswith(f"{case}.npz: ok: ")
    assert out.splitlines()[-1].endswith(" over 1 files")


def test_tape_lengths_differ_between_inputs() -> None:
    lengths = np.concatenate([make_golden(official(), seed)["n_updates"].ravel() for seed in range(3)])
    assert len(set(lengths)) > 1


def test_every_quantity_is_compared(
    good: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [name for name in good if not name.startswith(("params/", "inputs", "config_json"))]
    for name in names:
        spoilt = good[name].copy()
        spoilt.flat[-1] += 1 if spoilt.dtype == np.int32 else 1e-3
        write(tmp_path, name, good | {name: spoilt})
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(names) + 1
    assert all(": FAIL: " in line for line in lines[:-1])
    assert len(names) == 13


def without(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in arrays.items() if key != name}


def with_config(arrays: dict[str, np.ndarray], **changes: object) -> dict[str, np.ndarray]:
    config = json.loads(str(arrays["config_json"]))
    return arrays | {"config_json": np.array(json.dumps(config | changes))}


def spoilt_files(good: dict[str, np.ndarray]) -> dict[str, tuple[dict[str, np.ndarray], str]]:
    tape = json.loads(str(good["config_json"]))["ac_config"]
    two_a_step = tape | {"dynamic_tape_length": tape["dynamic_tape_length"] | {"num_token_per_step": 2}}
    before_all = tape | {"add_tape_token_to_layers": [-1]}
    return {
        "not a number": (good | {"logits": np.full_like(good["logits"], np.nan)}, "logits inf"),
        "another shape": (good | {"tape_tokens": good["tape_tokens"][:, :, :-1]}, "tape_tokens"),
        "no logits": (without(good, "logits"), "got no logits"),
        "parameter missing": (without(good, "params/pre_bank/bias"), "no pre_bank/bias"),
        "parameter left over": (good | {"params/extra/bias": np.zeros(3)}, "unused extra/bias"),
        "parameter of another shape": (good | {"params/embedding/bias": np.zeros(9, np.float32)}, "embedding.bias"),
        "several tokens a step": (with_config(good, ac_config=two_a_step), "num_token_per_step; got 2; expected 1"),
        "tape before the first block": (with_config(good, ac_config=before_all), "tape.layers"),
        "no tape length": (with_config(good, ac_config=without(tape, "dynamic_tape_length")), "'dynamic_tape_length'"),
        "unknown model": (with_config(good, model="mixer"), "model; got mixer"),
        "config not JSON": (good | {"config_json": np.array("{")}, "JSONDecodeError"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "not a number",
        "another shape",
        "no logits",
        "parameter missing",
        "parameter left over",
        "parameter of another shape",
        "several tokens a step",
        "tape before the first block",
        "no tape length",
        "unknown model",
        "config not JSON",
    ],
)
def test_a_spoilt_file_fails_and_says_why(
    name: str, good: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, reason = spoilt_files(good)[name]
    write(tmp_path, "a", good)
    write(tmp_path, "b", arrays)
    assert main([str(tmp_path)]) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("a.npz: ok")
    assert second.startswith("b.npz: FAIL")
    assert reason in second
    assert last == "max error inf over 2 files"


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_an_unreadable_file_fails(content: bytes | None, good: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = write(tmp_path, "a", good)
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    assert main([str(tmp_path)]) == 1


def test_an_empty_folder_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "expected at least one *.npz" in capsys.readouterr().err


@pytest.mark.skipif(
    "ADATAPE_GOLDEN" not in os.environ, reason="needs the folder of golden files that ADATAPE_GOLDEN names"
)
def test_official_files() -> None:
    assert main([os.environ["ADATAPE_GOLDEN"]]) == 0
