"""The loss against torch's own, and the mean that respects weights."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from adatape.loss import classification_loss, weighted_mean

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 3, 0])
SOFT = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", [LABELS, SOFT], ids=["labels", "mixed"])
def test_softmax_is_torchs_cross_entropy(targets: torch.Tensor, smoothing: float) -> None:
    expected = F.cross_entropy(LOGITS, targets, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(classification_loss(LOGITS, targets, "softmax", smoothing), expected)


def test_sigmoid_sums_over_classes() -> None:
    loss = classification_loss(LOGITS, LABELS, "sigmoid")
    probabilities, is_true = LOGITS.sigmoid(), F.one_hot(LABELS, 4).bool()
    torch.testing.assert_close(loss, -torch.where(is_true, probabilities, 1 - probabilities).log().sum(1))


def test_sigmoid_smooths_towards_all_classes() -> None:
    targets = F.one_hot(LABELS, 4) * 0.9 + 0.1 / 4
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets, reduction="none").sum(1)
    torch.testing.assert_close(classification_loss(LOGITS, LABELS, "sigmoid", 0.1), expected)


@pytest.mark.parametrize(
    ("targets", "options", "message"),
    [
        (LABELS, {"kind": "hinge"}, "loss; got hinge; expected sigmoid or softmax"),
        (LABELS, {"label_smoothing": 1.0}, "label_smoothing; got 1.0"),
        (LABELS[:5], {}, "targets; got torch.int64"),
        (SOFT[:, :3], {}, "targets; got torch.float32"),
        (LABELS.float(), {}, "targets; got torch.float32"),
    ],
)
def test_wrong_arguments_are_refused(targets: torch.Tensor, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        classification_loss(LOGITS, targets, **options)


def test_weights_count_in_the_sum_too() -> None:
    """The official ponder loss gives 36.5 here."""
    assert float(weighted_mean(torch.tensor([1.0, 2, 30, 40]), torch.tensor([1, 1, 0, 0]))) == 1.5


values = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8)


@given(values)
def test_equal_weights_are_no_weights(numbers: list[float]) -> None:
    tensor = torch.tensor(numbers)
    torch.testing.assert_close(weighted_mean(tensor, torch.full_like(tensor, 0.25)), weighted_mean(tensor))


@given(values, values)
def test_a_padded_sample_counts_nothing(numbers: list[float], padding: list[float]) -> None:
    weights = torch.tensor([1.0] * len(numbers) + [0.0] * len(padding))
    torch.testing.assert_close(
        weighted_mean(torch.tensor(numbers + padding), weights), torch.tensor(numbers).mean(), atol=1e-5, rtol=1e-5
    )


def test_a_batch_of_padding_means_zero() -> None:
    values_B = torch.tensor([3.0, 4.0], requires_grad=True)
    weighted_mean(values_B, torch.zeros(2)).backward()
    assert values_B.grad.tolist() == [0.0, 0.0]
