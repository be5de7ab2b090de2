"""The command that judges a run: every figure it promises, from a run that is trained here."""

import json
from pathlib import Path

import numpy as np
import pytest

from adatape import evaluate
from adatape.rounds import train
from adatape.rounds.checkpoint import load_run
from adatape.rounds.evaluate import centre_out, judge
from adatape.rounds.stopping import Measured
from tests.adatape.rounds.test_train import small_run

KEYS = [
    "prefixes",
    "adaptive",
    "default_price",
    "full_over_adaptive",
    "steps",
    "hard_over_easy",
    "r_tape_loss",
    "order",
    "calibration_error",
    "num_samples",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train.main(small_run(out, epochs=8))
    return out


def test_the_command_writes_every_figure(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "told.json"
    assert evaluate.main([str(run), "--data", "digits", "--split", "test", "--json", str(out), "--threads", "1"]) == 0
    told = json.loads(out.read_text())
    assert [key for key in KEYS if key not in told] == []
    assert told["num_samples"] == 360
    assert [row["cap"] for row in told["prefixes"]] == [0, 4, 16]
    assert told["prefixes"][-1]["accuracy"] > 0.5
    assert set(told["order"]) == {"4"}
    assert set(told["order"]["4"]) == {"chosen", "random", "centre_out"}
    assert set(told["adaptive"][0]) == {
        "price",
        "accuracy",
        "mean_mflops",
        "mean_tape",
        "gain_points",
        "gain_low",
        "saving",
    }
    assert told["adaptive"][0]["price"] == told["default_price"]
    assert out.with_suffix(".png").is_file()
    assert (tmp_path / "told-reliability.png").is_file()
    printed = capsys.readouterr().out
    assert "cap  16  accuracy" in printed
    assert "calibration error" in printed


def test_a_split_is_judged_the_same_twice(run: Path, tmp_path: Path) -> None:
    for name in ("one.json", "two.json"):
        evaluate.main([str(run), "--data", "digits", "--json", str(tmp_path / name), "--threads", "1"])
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_other_data_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "other.npz", x_train=np.zeros((20, 32, 32, 3), np.uint8), y_train=np.arange(20) % 3)
    assert evaluate.main([str(run), "--data", str(tmp_path / "other.npz")]) == 1
    assert "expected the run's" in capsys.readouterr().err


def test_need_is_told_apart_from_chance(run: Path) -> None:
    """An image that reads more because it is harder shows in every figure of need."""
    model, _ = load_run(run)
    random = np.random.default_rng(0)
    hard = random.random(2000) < 0.3
    right = np.stack([~hard, ~hard, np.ones(2000, bool)], axis=1)
    sure = right.astype(np.float32)
    judged = Measured(
        (0, 4, 16), (20.0, 50.0, 150.0), right, [sure, sure[:, 1:], sure[:, 2:]], hard + random.random(2000) / 9
    )
    few = evaluate.open_source("digits", image_size=32).split("test")
    told = judge(model, judged, judged, type(few)(few.x[:40], few.y[:40]), default_price=5.0)
    assert told["hard_over_easy"] > 100
    assert told["r_tape_loss"] > 0.9
    best = told["adaptive"][0]
    assert best["accuracy"] == 1
    assert best["mean_mflops"] == pytest.approx(20 + 130 * hard.mean())
    assert best["saving"] == pytest.approx(150 / best["mean_mflops"])
    assert best["gain_low"] > 10
    assert told["full_over_adaptive"] >= best["saving"]
    assert told["steps"][0]["points"] == 0
    assert told["steps"][1]["low"] > 20
    assert told["calibration_error"] == pytest.approx(0, abs=1e-6)


def test_the_centre_comes_first() -> None:
    order = centre_out(4)(np.zeros((2, 16)))
    assert sorted(order[0, :4].tolist()) == [5, 6, 9, 10]
    assert sorted(order[1, -4:].tolist()) == [0, 3, 12, 15]
