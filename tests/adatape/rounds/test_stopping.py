"""The rule of stopping: it follows worth and price, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adatape.rounds.stopping import Measured, fixed_accuracy, fixed_mflops, stops

MFLOPS = (20.0, 50.0, 150.0)


def estimates(*rows: tuple[float, ...]) -> list[np.ndarray]:
    """Return estimates of one image: at prefix 0 three figures, at prefix 1 two, at prefix 2 one."""
    return [np.array([row], np.float32) for row in rows]


@pytest.mark.parametrize(
    ("worth", "price", "stopped"),
    [
        (((0.9, 0.9, 0.9), (0.9, 0.9), (0.9,)), 0.0, 0),  # nothing to gain is not read for, even for nothing
        (((0.5, 0.6, 0.6), (0.6, 0.6), (0.6,)), 30.0, 1),  # ten points for 30 MFLOPs
        (((0.5, 0.6, 0.6), (0.6, 0.6), (0.6,)), 40.0, 0),
        (((0.5, 0.5, 0.9), (0.5, 0.9), (0.9,)), 30.0, 2),  # the second round alone is worth both
        (((0.5, 0.5, 0.9), (0.5, 0.5), (0.5,)), 30.0, 1),  # and what round 1 says counts more than the glance
    ],
)
def test_an_image_reads_on_while_some_later_prefix_is_worth_its_price(
    worth: tuple[tuple[float, ...], ...], price: float, stopped: int
) -> None:
    assert stops(estimates(*worth), MFLOPS, price).tolist() == [stopped]


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.floats(0, 200), st.floats(0, 200))
def test_a_higher_price_never_reads_more(figures: list[float], one: float, other: float) -> None:
    worth = estimates(tuple(figures[:3]), tuple(figures[3:5]), tuple(figures[5:]))
    low, high = sorted((one, other))
    assert stops(worth, MFLOPS, high)[0] <= stops(worth, MFLOPS, low)[0]


def a_thousand(seed: int = 0) -> Measured:
    """Images of three kinds: easy ones, ones that need round 2, and hopeless ones; estimates tell them apart."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, 1000, p=[0.6, 0.3, 0.1])
    right = np.stack([kind == 0, kind == 0, kind <= 1], axis=1)
    sure = right.astype(np.float32)
    worth = [sure, sure[:, 1:], sure[:, 2:]]
    return Measured((0, 4, 16), MFLOPS, right, worth, 1 - sure[:, 0])


def test_compute_goes_where_it_helps() -> None:
    images = a_thousand()
    outcome = images.at_price(10.0)
    assert outcome.accuracy == images.right_NP[:, 2].mean()
    helped = (images.right_NP[:, 2] & ~images.right_NP[:, 0]).mean()
    assert outcome.mean_mflops == pytest.approx(20 + 130 * helped)
    assert outcome.mean_tape == pytest.approx(16 * helped)


def test_the_default_price_is_the_largest_that_keeps_accuracy() -> None:
    images = a_thousand()
    price = images.default_price()
    full = images.right_NP[:, 2].mean()
    assert images.at_price(price).accuracy >= full - 0.003
    assert images.at_price(price * 1.05).accuracy < full - 0.003


@pytest.mark.parametrize("budget", [20.0, 40.0, 59.0, 1000.0])
def test_a_price_is_found_for_a_mean_cost(budget: float) -> None:
    images = a_thousand()
    price = images.price_of(budget)
    assert images.at_price(price).mean_mflops <= budget
    assert price == 0 or images.at_price(price * 0.999).mean_mflops > budget


def test_fixed_prefixes_are_mixed_along_their_upper_hull() -> None:
    accuracy = (0.8, 0.81, 0.9)  # the middle prefix lies below the line between the ends
    assert fixed_accuracy(MFLOPS, accuracy, 20) == pytest.approx(0.8)
    assert fixed_accuracy(MFLOPS, accuracy, 85) == pytest.approx(0.85)
    assert fixed_mflops(MFLOPS, accuracy, 0.85) == pytest.approx(85)
    assert fixed_mflops(MFLOPS, accuracy, 0.7) == 20
    assert fixed_mflops(MFLOPS, accuracy, 0.95) == float("inf")
    assert fixed_accuracy(MFLOPS, (0.8, 0.9, 0.85), 150) == 0.9  # nobody pays for a worse answer
