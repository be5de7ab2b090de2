"""Augmentation: moves pixels, invents none, and mixes targets as it mixes images."""

import pytest
import torch

from adatape.augment import augment, mix, random_affine, random_color
from adatape.configs import Recipe


def images(seed: int = 0, batch: int = 6, side: int = 8) -> torch.Tensor:
    return torch.rand(batch, side, side, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_nothing_asked_nothing_done() -> None:
    x = images()
    assert augment(x, Recipe()) is x


def test_shift_and_flip_only_move_pixels() -> None:
    torch.manual_seed(1)
    x = images()
    moved = random_affine(x, Recipe(shift=2, flip=True))
    assert not torch.allclose(moved, x)
    for before, after in zip(x, moved, strict=True):
        distance = (after.reshape(-1, 1, 3) - before.reshape(1, -1, 3)).abs().amax(2).amin(1)
        assert distance.max() < 1e-4, "every pixel must be one of the original's"


def test_draws_follow_the_global_seed() -> None:
    recipe = Recipe(min_zoom=0.5, rotate_deg=10, flip=True, color=0.3)
    torch.manual_seed(3)
    first = augment(images(), recipe)
    torch.manual_seed(3)
    assert torch.equal(first, augment(images(), recipe))
    assert not torch.equal(first, augment(images(), recipe))


def test_zoom_keeps_range_and_shape() -> None:
    torch.manual_seed(0)
    out = augment(images(), Recipe(min_zoom=0.3, rotate_deg=20, flip=True, color=0.5))
    assert out.shape == images().shape
    assert out.min() >= -1
    assert out.max() <= 1


def test_color_moves_each_sample_differently() -> None:
    torch.manual_seed(0)
    x = torch.zeros(4, 2, 2, 3)
    assert random_color(x, 0.4)[:, 0, 0, 0].unique().numel() == 4


@pytest.mark.parametrize("seed", range(8))
def test_mixed_targets_match_mixed_pixels(seed: int) -> None:
    x = torch.stack([torch.zeros(16, 16, 3), torch.ones(16, 16, 3)])
    y = torch.eye(2)
    torch.manual_seed(seed)
    mixed_x, mixed_y = mix(x, y, probability=1.0)
    assert torch.allclose(mixed_y.sum(1), torch.ones(2))
    assert torch.allclose(mixed_x.mean((1, 2, 3)), mixed_y[:, 1], atol=1e-5)


def test_probability_zero_never_mixes() -> None:
    x, y = images(), torch.eye(6)
    assert mix(x, y, 0.0)[0] is x
