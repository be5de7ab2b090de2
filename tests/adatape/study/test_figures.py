"""What the studies measure, against hand-made readings."""

from functools import partial

import numpy as np
import pytest
import torch

from adatape.data import PAD, Split, parity_strings
from adatape.model import AdaTape
from adatape.study.ablation import ABLATIONS, build_ablated, build_blind, choose_again, choose_first, choose_random
from adatape.study.behaviour import centre_ratio, correlation, entry_counts
from adatape.study.mechanism import best_guess, mechanism_figures, mixed_tokens, swapped_accuracy
from adatape.study.parity import parity_preset
from adatape.study.quality import quality


def test_a_token_is_mixed_when_its_symbols_differ() -> None:
    symbols_BL = torch.tensor([[2, 2, 2, 0]])
    picks_BNK = torch.tensor([[[0, 1], [2, 3], [-1, -1]]])
    mixed_BN, holds_BN4 = mixed_tokens(symbols_BL, picks_BNK)
    assert mixed_BN.tolist() == [[False, True, False]]
    assert holds_BN4[0].int().tolist() == [[0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_an_odd_count_leaves_an_odd_number_of_mixed_tokens() -> None:
    """Whatever the weights: reading pairs without repeats, until nothing is left, makes it so."""
    torch.manual_seed(0)
    chosen = parity_preset(8)
    model = AdaTape(chosen.model).eval()
    figures = mechanism_figures(model, parity_strings(200, 1, 8, 8))
    assert figures["all_read"] > 0.5
    if figures["all_read"] == 1:
        assert set(figures["odd_when_odd"].values()) == {1.0}


def test_a_best_guess_gives_all_that_look_alike_one_answer() -> None:
    is_odd_B = torch.tensor([True, True, False, False, False])
    assert best_guess(torch.tensor([[1], [1], [1], [2], [2]]), is_odd_B) == pytest.approx(0.8)
    assert best_guess(torch.tensor([[1], [1], [2], [2], [3]]), is_odd_B) == 1


def test_a_tape_of_merged_pairs_tells_the_parity_and_one_of_best_entries_does_not() -> None:
    split = parity_strings(500, 1, 8, 8)
    for build, least, most in (
        (build_blind, 1.0, 1.0),
        (partial(build_blind, ablation="no merge"), 0.5, 0.8),
    ):
        torch.manual_seed(0)
        figures = mechanism_figures(build(parity_preset(8).model).eval(), split)
        assert figures["all_read"] == 1, "the bound is of a tape that holds all"
        assert least <= figures["tells"]["tape"] <= most


def test_a_blind_model_sees_its_tape_only() -> None:
    torch.manual_seed(0)
    split = parity_strings(50, 1, 8, 8)
    blind, sighted = (build(parity_preset(8).model).eval() for build in (build_blind, AdaTape))
    inputs = torch.nn.functional.one_hot(torch.from_numpy(split.x).long(), 3).float()
    is_alike = [(model.embed(inputs)[0] == model.embed(inputs)[1]).all() for model in (blind, sighted)]
    assert is_alike == [True, False]
    assert not torch.equal(*blind(inputs).reads[0].tape_BND[:2])


def test_another_main_token_does_not_move_a_blind_model() -> None:
    torch.manual_seed(0)
    split, model = parity_strings(50, 1, 8, 8), build_blind(parity_preset(8).model).eval()
    torch.nn.init.normal_(model.head.weight)
    assert swapped_accuracy(model, split) == pytest.approx(quality(model, split)["accuracy"])


def test_short_strings_are_filled_up() -> None:
    split = parity_strings(500, 3, 1, 6, width=8)
    lengths = (split.x != PAD).sum(1)
    assert (lengths.min(), lengths.max()) == (1, 6)
    assert all((row[:length] < PAD).all() for row, length in zip(split.x, lengths, strict=True))
    assert (split.y == (split.x == 2).sum(1) % 2).all()


def test_choices_that_ablations_put_in() -> None:
    scores, used = torch.tensor([[1.0, 3.0, 2.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    assert choose_first(scores, used, 2).tolist() == [[0, 2]]
    assert choose_again(scores, used, 2).tolist() == [[1, 2]]
    assert all(1 not in choose_random(scores, used, 3)[0] for _ in range(20))


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_changes_what_is_read(ablation: str) -> None:
    chosen, split = parity_preset(8), parity_strings(50, 1, 8, 8)
    inputs = torch.nn.functional.one_hot(torch.from_numpy(split.x).long(), 3).float()
    tapes = []
    for build in (AdaTape, lambda config: build_ablated(config, ablation)):
        torch.manual_seed(0)
        tapes.append(build(chosen.model).eval()(inputs).reads[0].tape_BND.detach())
    assert not torch.allclose(*tapes)


def test_reads_are_counted_for_each_entry() -> None:
    assert entry_counts(torch.tensor([[[0, 2], [2, 1], [-1, -1]]]), 4).tolist() == [[1, 1, 2, 0]]


def test_a_centre_that_is_read_twice_as_often() -> None:
    counts = np.ones((50, 8, 8))
    counts[:, 2:6, 2:6] = 2
    assert centre_ratio(counts) == pytest.approx((2, 2, 2))


def test_correlation_has_an_interval() -> None:
    generator = np.random.default_rng(0)
    a = generator.normal(size=400)
    r, low, high = correlation(a, a + generator.normal(size=400))
    assert low < r < high
    assert 0.6 < r < 0.8
    assert correlation(a, np.ones(400)) is None


def test_quality_counts_what_is_right() -> None:
    torch.manual_seed(0)
    split = parity_strings(100, 1, 8, 8)
    model = AdaTape(parity_preset(8).model).eval()
    model.head.bias.data = torch.tensor([1.0, 0.0])
    figures = quality(model, split)
    assert figures["accuracy"] == pytest.approx((split.y == 0).mean())
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    assert quality(model, Split(split.x, 1 - split.y))["accuracy"] == pytest.approx(1 - figures["accuracy"])
    assert quality(model, split, 0)["flops"] < quality(model, split, 1)["flops"] < figures["flops"]
