"""The ladder that benchmarks.rounds times: everyone is answered once, by the prefix that the price says."""

import numpy as np
import pytest

from benchmarks.rounds import BATCH, Ladder

COUNT = 3 * BATCH + 5
MFLOPS = (20.0, 60.0, 160.0)


class Rung:
    """Answers with its own number; an image gains at the last rung if its first pixel is 50 more at each rung on."""

    def __init__(self, number: int, later: int) -> None:
        self.number, self.later, self.sizes = number, later, []

    def __call__(self, feeds):
        self.sizes.append(len(feeds["image"]))
        if self.number:
            assert (feeds["order"] == feeds["image"][:, 0, 0, 0]).all(), "state goes with its image"
        kind = feeds["image"][:, 0, 0, 0]
        accuracy = np.full((len(kind), self.later + 1), 0.5, np.float32)
        accuracy[kind >= 50 * (self.number + 1), -1] = 0.9
        logits = np.eye(3)[np.full(len(kind), self.number)]
        told = {"logits": logits, "accuracy_at": accuracy, "order": kind.copy()}
        return told if self.number == 0 else {**told, "present": kind.copy()}


@pytest.fixture
def rungs():
    return [Rung(number, 2 - number) for number in range(3)]


def images():
    kind = np.arange(COUNT) * 3 % 150
    return np.broadcast_to(kind[:, None, None, None], (COUNT, 2, 2, 3)).astype(np.uint8), kind


def test_everyone_stops_where_the_price_says_and_batches_are_full(rungs):
    image, kind = images()
    answer = Ladder(rungs, MFLOPS).answer(image, 10.0, 2)
    assert answer[:, 0].tolist() == answer[:, 1].tolist() == (kind // 50).tolist()
    for rung in rungs:
        assert all(size == BATCH for size in rung.sizes[:-1])
    assert [sum(rung.sizes) for rung in rungs] == [COUNT, (kind >= 50).sum(), (kind >= 100).sum()]


@pytest.mark.parametrize("last", [0, 1, 2])
def test_at_a_fixed_prefix_everyone_goes_that_far(rungs, last):
    image, _ = images()
    assert (Ladder(rungs, MFLOPS).answer(image, -np.inf, last)[:, 0] == last).all()
    assert [sum(rung.sizes) for rung in rungs] == [COUNT if rung.number <= last else 0 for rung in rungs]
