"""Training: resume is exact, caps are drawn, mistakes are caught before any work."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from adatape.checkpoint import init_from, load_checkpoint, read_json
from adatape.configs import MIN_BATCHES, PRESETS, Recipe, fit_to_size, preset
from adatape.data import open_source
from adatape.model import AdaTape
from adatape.progress import RunLog
from adatape.state import resume_from, save_state
from adatape.train import main
from adatape.trainer import Schedule, Trainer, draw_cap


def digits_trainer(seed: int = 0, **recipe: object) -> Trainer[AdaTape]:
    overrides = {"recipe.epochs": 1, **{f"recipe.{key}": value for key, value in recipe.items()}}
    chosen = preset("digits", overrides)
    return Trainer(chosen, open_source("digits", image_size=32), AdaTape, seed=seed, device="cpu")


def weights_after(trainer: Trainer, num_steps: int) -> list[torch.Tensor]:
    for _ in range(num_steps):
        trainer.step()
    return [parameter.detach().clone() for parameter in trainer.state.model.parameters()]


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole = weights_after(digits_trainer(ema=0.9, mix=0.5), 6)
    first = digits_trainer(ema=0.9, mix=0.5)
    weights_after(first, 3)
    save_state(tmp_path, first.state, [])
    second = digits_trainer(ema=0.9, mix=0.5)
    assert resume_from(tmp_path, second.state) == []
    assert second.state.step == 3
    assert all(torch.equal(a, b) for a, b in zip(whole, weights_after(second, 3), strict=True))


def test_resume_drops_epochs_logged_after_the_state_was_saved(tmp_path: Path) -> None:
    trainer = digits_trainer()
    weights_after(trainer, 2)
    save_state(tmp_path, trainer.state, [{"step": 1.0}, {"step": 9.0}])
    assert resume_from(tmp_path, digits_trainer().state) == [{"step": 1.0}]


def test_resume_refuses_the_state_of_another_model(tmp_path: Path) -> None:
    save_state(tmp_path, digits_trainer(ema=0.9).state, [])
    with pytest.raises(ValueError, match="state of another model"):
        resume_from(tmp_path, digits_trainer().state)


def run_digits(out: Path, *more: str) -> None:
    main(["--config", "digits", "--data", "digits", "--out", str(out), "--threads", "1", *more])


def test_a_run_starts_from_the_weights_that_it_is_given(tmp_path: Path) -> None:
    run_digits(tmp_path / "first", "--set", "recipe.epochs=1")
    still = ["--set", "recipe.epochs=0.1", "--set", "recipe.lr=0"]
    run_digits(tmp_path / "second", *still, "--init", str(tmp_path / "first"))
    first, second = (load_checkpoint(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_head_for_other_classes_is_not_taken_over(tmp_path: Path) -> None:
    run_digits(tmp_path, "--set", "recipe.epochs=0.1")
    model = AdaTape(preset("digits", {"model.num_classes": 3}).model)
    head = model.head.weight.clone()
    init_from(tmp_path, model)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(
        model.state_dict()["blocks.0.norm1.weight"], load_checkpoint(tmp_path)[0].state_dict()["blocks.0.norm1.weight"]
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    run_digits(tmp_path / "first", "--set", "recipe.epochs=0.1")
    with pytest.raises(SystemExit, match=r"--init .*first; got .* of shape \(32,\), and \d+ others; expected \(64,\)"):
        run_digits(tmp_path / "second", "--set", "model.dim=64", "--init", str(tmp_path / "first"))


def test_training_learns_digits(tmp_path: Path) -> None:
    main(
        [
            "--config",
            "digits",
            "--data",
            "digits",
            "--out",
            str(tmp_path / "run"),
            "--threads",
            "1",
            "--set",
            "recipe.epochs=12",
        ]
    )
    model, info = load_checkpoint(tmp_path / "run")
    assert not model.training
    assert info.curve[-1]["accuracy_cap8"] > 0.7
    assert info.class_names == tuple("0123456789")
    assert (tmp_path / "run" / "epochs.csv").read_text().count("\n") == 13
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_number_of_classes_follows_the_data(tmp_path: Path) -> None:
    main(
        [
            "--config",
            "digits",
            "--data",
            "digits",
            "--out",
            str(tmp_path / "run"),
            "--threads",
            "1",
            "--set",
            "recipe.epochs=0.1",
            "--set",
            "model.num_classes=3",
        ]
    )
    assert read_json(tmp_path / "run" / "config.json")["num_classes"] == 10


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "nope", "--data", "digits"], "config; got 'nope'"),
        (["--config", "digits", "--data", "missing.npz"], "does not exist"),
        (["--config", "parity", "--data", "digits"], "expected parity"),
        (["--config", "digits", "--data", "digits", "--set", "recipe.nope=1"], "override; got 'recipe.nope'"),
        (["--config", "digits", "--data", "digits", "--set", "tape.capacity=99"], "tape bank size; got 64"),
    ],
)
def test_mistakes_end_in_one_clear_line(tmp_path: Path, argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--out", str(tmp_path / "run")])
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds a run"):
        main(["--config", "digits", "--data", "digits", "--out", str(tmp_path)])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="a folder that can be written"):
        main(["--config", "digits", "--data", "digits", "--out", str(tmp_path / "file" / "run")])


def test_caps_are_drawn_in_the_recipe_s_shares() -> None:
    torch.manual_seed(0)
    recipe = Recipe(caps=(0, 2), full_tape_share=0.5)
    draws = [draw_cap(recipe, 8) for _ in range(2000)]
    assert set(draws) == {0, 2, 8}
    assert draws.count(8) == pytest.approx(1000, abs=100)
    assert draws.count(0) == pytest.approx(500, abs=80)


@pytest.mark.parametrize("num_images", [20, 300, 1000])
def test_few_images_make_smaller_batches_and_smaller_steps(num_images: int) -> None:
    recipe = Recipe(batch_size=128, lr=2e-3)
    fitted = fit_to_size(recipe, num_images)
    assert fitted.batch_size == max(8, num_images // MIN_BATCHES)
    assert fitted.lr == pytest.approx(2e-3 * (fitted.batch_size / 128) ** 0.5)
    assert fit_to_size(recipe, 128 * MIN_BATCHES) is recipe


def test_a_batch_size_that_is_given_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--set", "recipe.batch_size=1400", "--set", "recipe.epochs=1", "--threads", "1"]
    main(["--config", "digits", "--data", "digits", "--out", str(tmp_path / "a run"), *given])
    told = capsys.readouterr().out
    assert "digits: 10 classes (0, 1, 2, 3, 4, 5, 6, 7, …); 1293 for training, 144 for validation, 360 for test" in told
    assert "1 epochs of 1 batches of 1293, learning rate 0.003" in told
    assert f"next: python -m adatape.evaluate '{tmp_path}/a run' --data digits" in told


def test_without_caps_every_batch_reads_the_full_tape() -> None:
    assert {draw_cap(Recipe(caps=()), 8) for _ in range(50)} == {8}


def test_schedule_warms_up_and_ends_at_zero() -> None:
    schedule = Schedule(peak=1.0, warmup_steps=10, total_steps=100)
    rates = [schedule.at(step) for step in range(101)]
    assert rates[0] < 0.11
    assert max(rates) == pytest.approx(rates[9], abs=0.03)
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert all(later <= earlier for earlier, later in pairwise(rates[10:]))


def test_every_preset_is_a_valid_model() -> None:
    for name in PRESETS:
        chosen = preset(name)
        assert chosen.model.name == name
        assert type(chosen.model).from_dict(chosen.model.to_dict()) == chosen.model
        assert all(cap < chosen.model.capacity for cap in chosen.recipe.caps)


def test_log_keeps_one_row_an_epoch(tmp_path: Path) -> None:
    with RunLog(tmp_path, [{"step": 1, "epoch": 1.0, "train_loss": 2.0, "accuracy_cap0": 0.1}]) as log:
        log.batch(2, {"loss": 1.0, "accuracy": 0.5, "tape": 4.0})
        log.epoch(2.0, {"accuracy_cap0": 0.2})
    lines = (tmp_path / "epochs.csv").read_text().splitlines()
    assert lines == ["step,epoch,train_loss,accuracy_cap0", "1,1.0,2.0,0.1", "2,2.0,1.0,0.2"]
