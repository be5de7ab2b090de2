"""Training rounds models, teachers and rivals: resume is exact, teachers are asked once, mistakes are caught."""

import json
from pathlib import Path

import pytest
import torch

from adatape.data import Dataset, open_source
from adatape.rounds import family, teach, train
from adatape.rounds.checkpoint import build, is_rounds, load_run
from adatape.rounds.config import RoundsConfig
from adatape.rounds.configs import PRESETS, preset
from adatape.rounds.model import to_pixels
from adatape.rounds.optimizer import orthogonalise
from adatape.rounds.plain import PlainConfig
from adatape.rounds.recipe import RoundsRecipe
from adatape.rounds.trainer import Trainer, choose_precision, cut_out
from adatape.rounds.views import Views
from tests.adatape.rounds.test_model import SMALL

CONFIG = RoundsConfig.from_dict({**SMALL.to_dict(), "num_classes": 10, "prefixes": (0, 4, 16)})
RECIPE = RoundsRecipe(epochs=2, batch_size=64, cutout=6)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_source("digits", image_size=32)


def small_run(out: Path, epochs: int) -> list[str]:
    """Return the words of a command that trains a small model on digits."""
    sizes = {key: value for key, value in CONFIG.to_dict().items() if key not in ("name", "num_classes")}
    changes = [f"model.{key}={json.dumps(value)}" for key, value in sizes.items()]
    changes += [f"recipe.epochs={epochs}", "recipe.batch_size=64"]
    words = [word for change in changes for word in ("--set", change)]
    return ["--config", "cifar10", "--data", "digits", "--out", str(out), "--threads", "1", *words]


def weights_after(trainer: Trainer, num_steps: int) -> list[torch.Tensor]:
    for _ in range(num_steps):
        trainer.step()
    return [tensor.clone() for tensor in trainer.model.state_dict().values()]


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path, digits: Dataset) -> None:
    whole = weights_after(Trainer(CONFIG, RECIPE, digits), 4)
    first = Trainer(CONFIG, RECIPE, digits)
    weights_after(first, 2)
    first.save(tmp_path, [{"step": 1.0}, {"step": 9.0}])
    second = Trainer(CONFIG, RECIPE, digits)
    assert second.resume(tmp_path) == [{"step": 1.0}]
    assert all(torch.equal(a, b) for a, b in zip(whole, weights_after(second, 2), strict=True))


def test_resume_refuses_the_state_of_another_model(tmp_path: Path, digits: Dataset) -> None:
    Trainer(PlainConfig("vit", "vit", width=8, depth=1), RECIPE, digits).save(tmp_path, [])
    with pytest.raises(ValueError, match="state of another model"):
        Trainer(CONFIG, RECIPE, digits).resume(tmp_path)


def test_full_tape_counts_most_at_first_and_every_prefix_later(digits: Dataset) -> None:
    trainer = Trainer(CONFIG, RECIPE, digits)
    early = trainer.prefix_weights()
    trainer.step_number = trainer.total_steps - 1
    late = trainer.prefix_weights()
    assert early.sum() == pytest.approx(1)
    assert late.sum() == pytest.approx(1)
    assert early[2] > 0.7
    assert late[0] == late[1] == pytest.approx(1 / 3)


@pytest.mark.parametrize("config", [CONFIG, *(PRESETS[name][0] for name in ("teacher", "resnet8", "vit"))])
def test_every_parameter_learns(config: RoundsConfig | PlainConfig, digits: Dataset) -> None:
    trainer = Trainer(config, RECIPE, digits)
    trainer.step()
    still = [name for name, one in trainer.model.named_parameters() if one.requires_grad and one.grad is None]
    assert still == []


def test_a_teacher_is_asked_once_about_every_view_and_students_learn_from_it(tmp_path: Path) -> None:
    run = tmp_path / "teacher"
    small = ["--set", "model.width=4", "--set", "recipe.epochs=1", "--threads", "1"]
    train.main(["--config", "teacher", "--data", "digits", "--out", str(run), *small])
    teach.main([str(run), "--data", "digits", "--views", "1", "--threads", "1"])
    teach.main([str(run), "--data", "digits", "--views", "2", "--threads", "1"])  # goes on with the second
    data = open_source("digits", image_size=32)
    trainer = Trainer(CONFIG, RoundsRecipe(batch_size=64, num_views=2), data, teacher=run)
    teacher, _ = load_run(run)
    index = torch.tensor([3, 700])
    pixels = trainer.views.crop(index, 1, torch.tensor([False, False]))
    both = [to_pixels(view.permute(0, 2, 3, 1)) for view in (pixels, pixels.flip(3))]
    with torch.no_grad():
        told = torch.stack([teacher(view).logits_BPC[:, 0].log_softmax(-1) for view in both]).mean(0)
    assert trainer.targets_VNC is not None
    torch.testing.assert_close(trainer.targets_VNC[1, index].float(), told, rtol=2e-3, atol=2e-3)
    trainer.step()
    with pytest.raises(ValueError, match="answers to 2 views; expected 8"):
        Trainer(CONFIG, RoundsRecipe(num_views=8), data, teacher=run)
    with pytest.raises(ValueError, match="answers to views"):
        Trainer(CONFIG, RoundsRecipe(num_views=2, max_shift=1), data, teacher=run)


def test_one_command_trains_all_and_passes_over_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["recipe.epochs=0.1", "recipe.batch_size=64", "recipe.num_views=1"]
    words = ["--data", "digits", "--out", str(tmp_path), "--views", "1", "--threads", "1", "--only", "resnet8"]
    words += [word for change in changes for word in ("--set", change)]
    family.main(words)
    assert load_run(tmp_path / "resnet8")[1].teacher == "teacher"
    assert "2 of 2 steps" in capsys.readouterr().out
    family.main(words)
    assert "0 of 2 steps" in capsys.readouterr().out


def test_views_follow_from_their_number_alone() -> None:
    pixels = torch.randint(256, (6, 32, 32, 3), dtype=torch.uint8)
    views = Views.of(pixels, max_shift=2, num_views=3)
    index = torch.arange(6)
    assert torch.equal(views.take(index, 4), views.take(index, 10))  # view 2, twice three views later
    mirrored = views.take(index, 5)
    assert torch.equal(mirrored.flip(3), views.take(index, 4))
    assert not torch.equal(views.take(index, 0), views.take(index, 2))
    still = Views.of(pixels, max_shift=0, num_views=0)
    assert torch.equal(still.crop(index, 7, torch.zeros(6, dtype=torch.bool)), pixels.permute(0, 3, 1, 2))


def test_a_run_ends_with_worth_fitted_and_a_price_chosen(tmp_path: Path) -> None:
    common = small_run(tmp_path, epochs=2)
    train.main([*common, "--max-s", "0.001"])
    assert load_run(tmp_path)[1].curve == []
    train.main([*common, "--resume"])
    model, run = load_run(tmp_path)
    assert is_rounds(tmp_path)
    assert len(run.curve) == 2
    assert run.default_price is not None
    assert run.default_price >= 0
    assert any(parameter.abs().max() > 0 for parameter in model.worth.parameters())


@pytest.mark.parametrize("words", [["--config", "nothing"], ["--set", "recipe.colour=1"], ["--set", "epochs=1"]])
def test_mistakes_are_caught_before_any_work(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"adatape\.rounds\.train: .*; got .*; expected"):
        train.main(["--config", "cifar10", "--data", "digits", "--out", str(tmp_path), *words])


def test_presets_build_and_answer() -> None:
    for name in PRESETS:
        config, _ = preset(name, {})
        with torch.no_grad():
            answers = build(config).eval()(torch.randn(2, 3, 32, 32))
        assert answers.logits_BPC.shape == (2, len(config.prefixes), 10)


def test_orthogonalised_matrices_turn_without_stretching() -> None:
    for shape in ((8, 30), (30, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_cutout_greys_one_square_of_each_image() -> None:
    torch.manual_seed(0)
    cut = cut_out(torch.ones(50, 3, 32, 32), 6)
    areas = (cut == 0).float().sum((1, 2, 3)) / 3
    assert areas.max() == 36
    assert areas.min() >= 9
    assert torch.equal(cut_out(cut, 0), cut)


def test_precision_is_measured() -> None:
    assert choose_precision("cpu") in (torch.float32, torch.bfloat16)
