"""A study's runs: nothing is done twice, a stopped run goes on, and a result says what it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adatape.data import PAD, Dataset, Split, open_source
from adatape.model import AdaTape
from adatape.study import images, parity
from adatape.study.__main__ import main
from adatape.study.parity import parity_preset
from adatape.study.runs import Folders, Spec, read_results, run_all, train
from adatape.trainer import Trainer

SOURCE = "digits"


def tiny_spec(seed: int = 0) -> Spec:
    chosen = parity_preset(8)
    recipe = replace(chosen.recipe, batch_size=8, epochs=1)
    return Spec("parity", "fixed-8", "adatape", seed, "parity", replace(chosen, recipe=recipe), AdaTape)


def tiny_data(spec: Spec) -> Dataset:
    data = open_source("parity", image_size=0, seq_len=spec.chosen.model.seq_len)
    parts = {name: Split(data.split(name).x[:32], data.split(name).y[:32]) for name in ("train", "validation", "test")}
    return replace(data, **parts)


def test_a_study_goes_on_where_it_was(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "states", tmp_path / "results")
    measured = []

    def measure(spec: Spec, *_: object) -> dict[str, object]:
        measured.append(spec.key)
        return {"accuracy": 0.5}

    run_all([tiny_spec(0)], tiny_data, measure, folders, save_every_s=0)
    run_all([tiny_spec(0), tiny_spec(1)], tiny_data, measure, folders, save_every_s=0)
    assert measured == ["fixed-8--adatape--seed0", "fixed-8--adatape--seed1"]
    results = read_results(tmp_path / "results" / "parity")
    assert [(result["variant"], result["seed"], result["steps"]) for result in results] == [
        ("adatape", 0, 4.0),
        ("adatape", 1, 4.0),
    ]
    assert results[0]["model"]["tape"]["capacity"] == 4
    assert results[0]["parameters"] > 0


def test_a_stopped_run_ends_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adatape.study.runs.ROW_STEPS", 2)
    spec = tiny_spec()

    def trainer() -> Trainer[AdaTape]:
        return Trainer(spec.chosen, tiny_data(spec), AdaTape, seed=0, device="cpu")

    whole = trainer()
    train(whole, tmp_path / "whole", "", save_every_s=0)
    stopped, steps = trainer(), []

    def step(real=stopped.step) -> dict[str, float]:
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(1)
        return real()

    monkeypatch.setattr(stopped, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, tmp_path / "part", "", save_every_s=0)
    resumed = trainer()
    rows = train(resumed, tmp_path / "part", "", save_every_s=0)
    assert [row["step"] for row in rows] == [2, 4]
    pairs = zip(whole.state.model.parameters(), resumed.state.model.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_a_run_ends_early_when_nothing_is_left_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adatape.study.runs.ROW_STEPS", 1)
    monkeypatch.setattr("adatape.study.runs.SETTLED_ROWS", 2)
    spec = tiny_spec()
    trainer = Trainer(spec.chosen, tiny_data(spec), AdaTape, seed=0, device="cpu")
    monkeypatch.setattr("adatape.study.runs.SETTLED_ACCURACY", 0.0)
    rows = train(trainer, tmp_path, "", save_every_s=60)
    assert [row["step"] for row in rows] == [1, 2]
    again = Trainer(spec.chosen, tiny_data(spec), AdaTape, seed=0, device="cpu")
    assert train(again, tmp_path, "", save_every_s=60) == rows, "it stays ended when the command runs again"
    monkeypatch.setattr("adatape.study.runs.SETTLED_ACCURACY", 1.1)
    assert [row["step"] for row in train(again, tmp_path, "", save_every_s=60)] == [1, 2, 3, 4]


def test_short_strings_leave_the_longer_half_unseen() -> None:
    spec = next(spec for spec in parity.specs(1) if spec.data == parity.SHORT)
    data = parity.open_strings(spec)
    assert data.train.x.shape[1] == parity.ROOM
    assert ((data.train.x != PAD).sum(1).max(), (data.test.x != PAD).sum(1).min()) == (parity.ROOM // 2, 1)


@pytest.mark.parametrize(
    "specs",
    [list(parity.specs(3)), list(parity.quick_specs()), list(images.specs(SOURCE, 2)), list(images.quick_specs())],
    ids=["parity", "quick parity", "images", "quick images"],
)
def test_every_run_has_a_name_of_its_own_and_can_be_built(specs: list[Spec]) -> None:
    assert len({spec.key for spec in specs}) == len(specs) > 1
    with torch.device("meta"):
        assert all(spec.build(spec.chosen.model) is not None for spec in specs)


@pytest.mark.parametrize("arguments", [["images"], ["images", "--data", "nowhere.npz"]])
def test_a_wrong_source_is_told_before_any_work(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--states", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "expected" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
