"""`python -m adatape.evaluate` on an untrained run over the embedded digits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adatape.checkpoint import RunInfo, save_checkpoint
from adatape.curve import SplitId
from adatape.data import Split, open_source
from adatape.evaluate import evaluate, main
from adatape.flops import stage_flops
from adatape.model import AdaTape
from adatape.transformer import scale_pixels
from server.models.manifest import QualityCurve
from tests.adatape.models import IMAGE, PARITY, TAPE, make_model, with_tape

CONFIG = replace(
    IMAGE, image_size=8, patch=4, num_classes=10, tape=replace(TAPE, capacity=4, bank_patch=2, halting_threshold=2.0)
)
SAMPLES = SplitId("digits", "validation", "0" * 64)
DIGITS = tuple("0123456789")


@pytest.fixture(scope="module")
def model() -> AdaTape:
    return make_model(CONFIG)


@pytest.fixture
def run(model: AdaTape, tmp_path: Path) -> Path:
    data = open_source("digits", image_size=8)
    info = RunInfo("tiny", "python", "0" * 40, "digits", data.digest, DIGITS, 0, 1.0, {"validation_share": 0.1})
    save_checkpoint(tmp_path / "tiny", model, info)
    return tmp_path / "tiny"


def test_the_curve_is_that_of_the_whole_model(model: AdaTape, run: Path) -> None:
    assert main([str(run), "--threads", "1"]) == 0
    written = json.loads((run / "curve.json").read_text())
    split = open_source("digits", image_size=8).validation
    assert (written["data"], written["split"], written["data_digest"]) == ("digits", "validation", split.digest)
    assert written["num_samples"] == len(split) == sum(written["histogram"])
    x, flops = scale_pixels(torch.from_numpy(split.x)), stage_flops(CONFIG)
    for cap, point in enumerate(written["points"]):
        with torch.no_grad():
            output = model(x, cap)
        lengths = output.reads[0].length_B.tolist() if cap else [0] * len(split)
        assert point["cap"] == cap
        right = output.logits_BC.argmax(1).numpy() == split.y
        assert point["accuracy"] == pytest.approx(right.mean(), abs=1.5 / len(split))
        assert point["mean_tape_length"] == pytest.approx(np.mean(lengths))
        assert point["mean_flops"] == pytest.approx(np.mean([flops.total(length, cap) for length in lengths]))


def test_the_curve_is_what_the_manifest_expects(run: Path) -> None:
    assert main([str(run), "--threads", "1", "--split", "test", "--caps", "4", "0"]) == 0
    written = json.loads((run / "test.json").read_text())
    histogram = written.pop("histogram")
    quality = QualityCurve.model_validate(written)
    assert (quality.split, quality.num_samples) == ("test", 360)
    assert [point.cap for point in quality.points] == [0, 4]
    assert len(histogram) == 5
    assert (run / "test.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "test.svg").read_text().startswith("<?xml")
    assert not (run / "curve.json").exists()


def test_a_curve_can_be_checked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main([str(run), "--threads", "1", "--caps", "0", "2", "--out", str(out)]) == 0
    curve = json.loads((out / "curve.json").read_text())
    manifest = out / "manifest.json"
    manifest.write_text(json.dumps({"family": "tiny", "quality": curve}))
    capsys.readouterr()
    for path in (out / "curve.json", manifest):
        assert main([str(run), "--threads", "1", "--check", str(path)]) == 0
        assert "holds at 2 caps" in capsys.readouterr().out
    curve["points"][1]["accuracy"] += 0.01
    manifest.write_text(json.dumps({"family": "tiny", "quality": curve}))
    assert main([str(run), "--threads", "1", "--check", str(manifest)]) == 1
    assert "accuracy at cap 2; got" in capsys.readouterr().err
    assert not (run / "curve.json").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--caps", "5"], "caps; got [5]; expected numbers from 0 to 4"),
        (["--caps", "-1", "2"], "caps; got [-1, 2]"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--check", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    run: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run), "--threads", "1", *arguments]) == 1
    assert reason in capsys.readouterr().err


def test_a_run_of_other_classes_is_refused(model: AdaTape, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = RunInfo("tiny", "python", "0" * 40, "digits", "0" * 64, tuple("abcdefghij"), 0, 1.0, {})
    save_checkpoint(tmp_path, model, info)
    assert main([str(tmp_path), "--threads", "1"]) == 1
    assert "classes of digits; got" in capsys.readouterr().err


def small_split(count: int) -> Split:
    generator = np.random.default_rng(0)
    return Split(generator.integers(0, 256, (count, 8, 8, 3), np.uint8), generator.integers(0, 10, count))


def test_batches_do_not_matter(model: AdaTape, monkeypatch: pytest.MonkeyPatch) -> None:
    split = small_split(23)
    whole = evaluate(model, split, [0, 2, 4], SAMPLES)
    monkeypatch.setattr("adatape.evaluate.BATCH_SIZE", 5)
    assert evaluate(model, split, [0, 2, 4], SAMPLES) == whole


def test_a_plain_transformer_has_one_point() -> None:
    curve = evaluate(make_model(replace(CONFIG, tape=None)), small_split(8), [0], SAMPLES)
    assert [(point.cap, point.mean_tape_length_wanted) for point in curve.points] == [(0, 0.0)]
    assert curve.points[0].mean_flops == stage_flops(replace(CONFIG, tape=None)).total(0)


def test_a_parity_run_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adatape.data.PARITY_SIZES", {"train": (8, 0), "validation": (40, 1), "test": (8, 2)})
    config = replace(PARITY, num_classes=2)
    info = RunInfo("parity", "python", "0" * 40, "parity", "0" * 64, ("even", "odd"), 0, 1.0, {})
    save_checkpoint(tmp_path, make_model(config), info)
    assert main([str(tmp_path), "--threads", "1", "--caps", "0", "6"]) == 0
    written = json.loads((tmp_path / "curve.json").read_text())
    assert (written["data"], written["num_samples"]) == ("parity", 40)
    assert written["points"][1]["mean_flops"] > written["points"][0]["mean_flops"]


def test_several_tapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one layer to truncate the tape of"):
        evaluate(make_model(with_tape(CONFIG, layers=(0, 1))), small_split(8), [0], SAMPLES)
