"""Laws of the rounds model: an answer stands whatever is read later, and only what is read is computed."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adatape.rounds.cells import CellTokeniser, crops, take, windows
from adatape.rounds.config import RoundsConfig
from adatape.rounds.flops import prefix_flops
from adatape.rounds.model import RoundsModel, may_look

SMALL = RoundsConfig(
    "small",
    num_classes=3,
    prefixes=(0, 2, 5, 16),
    glance_widths=(4, 6, 8, 8, 8),
    cell_widths=(4, 6, 8, 8, 8),
    dim=16,
    depth=2,
    num_heads=2,
    mlp_dim=24,
    tape_ffn_dim=20,
)


def make_model(config: RoundsConfig = SMALL, seed: int = 0) -> RoundsModel:
    """Return a model in evaluation mode without a zero weight or a norm that does nothing."""
    torch.manual_seed(seed)
    model = RoundsModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.3)
    return model


def images(count: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def in_rounds(model: RoundsModel, x: torch.Tensor) -> torch.Tensor:
    glance, past = model.glance(x), None
    answers = [glance.logits_BC]
    for number in range(1, len(model.config.prefixes)):
        logits, past = model.read(x, glance, number, past)
        answers.append(logits)
    return torch.stack(answers, dim=1)


def test_rounds_give_the_answers_of_one_pass() -> None:
    model, x = make_model(), images()
    with torch.no_grad():
        torch.testing.assert_close(in_rounds(model, x), model(x).logits_BPC, rtol=1e-4, atol=1e-5)


def test_an_answer_does_not_change_with_what_is_read_later() -> None:
    """Prefix invariance: other cells in a later round move that round's answer and no earlier one."""
    model, x = make_model(), images()
    with torch.no_grad():
        glance = model.glance(x)
        order = glance.order_BM
        other = torch.cat([order[:, :5], order[:, 5:].flip(1)], dim=1)
        swapped = torch.cat([order[:, 2:4], order[:, :2], order[:, 4:]], dim=1)
        usual = model.answers(x, glance, order).logits_BPC
        assert torch.equal(model.answers(x, glance, other).logits_BPC[:, :3], usual[:, :3])
        moved = model.answers(x, glance, swapped).logits_BPC
    assert torch.equal(moved[:, 0], usual[:, 0])
    assert (moved[:, 1] - usual[:, 1]).abs().max() > 1e-3


def test_an_answer_does_not_depend_on_its_company() -> None:
    model, x = make_model(), images(8)
    alone = torch.cat([in_rounds(model, one[None]) for one in x])
    torch.testing.assert_close(in_rounds(model, x), alone, rtol=1e-4, atol=1e-5)


def test_training_answers_are_those_of_the_order_drawn_and_the_rival_those_of_the_next_cells() -> None:
    model, x = make_model(replace(SMALL, prefixes=(0, 4, 16))), images(4)
    for layer in model.modules():
        layer.training = layer is model  # batch norms judge by their running figures
    torch.manual_seed(3)
    with torch.no_grad():
        drawn = model(x)
        torch.manual_seed(3)
        glance = model.glance(x)
        order = model._drawn(glance.score_BM)
        model.training = False
        usual = model.answers(x, glance, order).logits_BPC
        rival = model.answers(x, glance, torch.cat([order[:, 4:8], order[:, :4], order[:, 8:]], 1)).logits_BPC
    assert drawn.rival_BC is not None
    assert drawn.saved_B is not None
    torch.testing.assert_close(drawn.logits_BPC, usual, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(drawn.rival_BC, rival[:, 1], rtol=1e-4, atol=1e-5)
    scores = take(glance.score_BM, order)
    torch.testing.assert_close(drawn.saved_B, scores[:, :4].sum(1) - scores[:, 4:8].sum(1))


def test_picked_cells_are_those_of_the_whole_bank() -> None:
    config = SMALL
    torch.manual_seed(0)
    cells, x = CellTokeniser(config).eval(), images()
    context = torch.randn(3, config.cell_widths[1], 8, 8)
    picks = torch.tensor([[0, 5], [15, 3], [6, 6]])
    with torch.no_grad():
        torch.testing.assert_close(cells.picked(x, context, picks), take(cells.dense(x, context), picks))


@pytest.mark.parametrize("config", [SMALL, RoundsConfig("shipped")])
def test_flops_are_those_that_torch_counts(config: RoundsConfig) -> None:
    """Laziness: a round's count has its own cells and tokens in it and nothing of the unread."""
    model, x, totals = make_model(config), images(2), []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        glance, past = model.glance(x), None
        totals.append(counter.get_total_flops() / 2)
        for number in range(1, len(config.prefixes)):
            _, past = model.read(x, glance, number, past)
            totals.append(counter.get_total_flops() / 2)
    assert totals == pytest.approx(prefix_flops(config), rel=0.01)


def test_what_is_not_picked_is_not_tokenised() -> None:
    model, x = make_model(), images()
    sizes: list[int] = []
    model.cells.out.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    with torch.no_grad():
        glance = model.glance(x)
        _, past = model.read(x, glance, 1)
        model.read(x, glance, 2, past)
    assert sizes == [3 * 2, 3 * 3]
    poisoned = x.clone()  # pixels beyond the picked cells and their halos may be anything
    unread = torch.ones(3, 16, dtype=torch.bool).scatter_(1, glance.order_BM[:, :2], False)
    read = torch.zeros(3, 1, 32, 32)
    for sample, cell in itertools.product(range(3), range(16)):
        if not unread[sample, cell]:
            row, column = divmod(cell, 4)
            read[sample, :, max(0, 8 * row - 2) : 8 * row + 10, max(0, 8 * column - 2) : 8 * column + 10] = 1
    poisoned = torch.where(read.bool(), x, torch.full_like(x, 1e6))
    with torch.no_grad():
        assert torch.equal(model.read(poisoned, glance, 1)[0], model.read(x, glance, 1)[0])


def test_the_best_cells_are_read_first() -> None:
    model = make_model()
    with torch.no_grad():
        glance = model.glance(images())
    ranked = take(glance.score_BM, glance.order_BM)
    assert (ranked.diff(dim=1) <= 0).all()
    assert len(set(map(tuple, glance.order_BM.tolist()))) == 3  # each image has an order of its own


def test_windows_cut_with_a_halo_of_zeros_outside() -> None:
    x = torch.arange(1.0, 17).view(1, 1, 4, 4)
    picks = torch.tensor([[3, 1]])
    assert torch.equal(crops(x, picks, 2, 1), windows(x, 2, 1)[0, [3, 1]])
    assert windows(x, 2, 0)[0, 1, 0].tolist() == [[3, 4], [7, 8]]
    assert windows(x, 2, 1)[0, 0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]


def test_tokens_look_at_their_round_and_earlier_ones() -> None:
    rounds = torch.tensor([0, 1, 2, -1])
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]
    assert may_look(rounds, rounds).int().tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefixes": (0,)}, "prefixes"),
        ({"prefixes": (1, 16)}, "prefixes"),
        ({"prefixes": (0, 8, 4, 16)}, "prefixes"),
        ({"prefixes": (0, 8)}, "to end at 16"),
        ({"image_size": 64}, "image_size; got 64; expected 8"),
        ({"num_heads": 3}, "a multiple of num_heads=3"),
        ({"num_classes": 1}, "num_classes"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RoundsConfig("x"), **changes)


def test_a_config_survives_json() -> None:
    assert RoundsConfig.from_dict(SMALL.to_dict()) == SMALL
    with pytest.raises(ValueError, match="keys; got"):
        RoundsConfig.from_dict({"name": "x", "colour": 1})
