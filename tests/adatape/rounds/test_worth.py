"""Worth: estimates that come true, of images that the fit had not seen."""

import numpy as np
import pytest
import torch

from adatape.rounds.worth import NUM_BINS, WorthHead, cross_fit, estimate, features, fit, reliability


def answers(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [N,2,4] that are too sure of themselves, better at the second prefix, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (count,), generator=generator)
    clarity = torch.rand(count, 1, generator=generator) * torch.tensor([1.5, 2.5])
    signal = torch.nn.functional.one_hot(labels, 4).float()
    noise = torch.randn(count, 2, 4, generator=generator)
    logits = 6 * (signal[:, None] * clarity[..., None] + 0.5 * noise)
    return logits, labels


def test_estimates_are_calibrated_where_the_model_is_too_sure() -> None:
    logits, labels = answers(6000)
    fitted = cross_fit(logits[:3000], labels[:3000])
    right = (logits[3000:].argmax(-1) == labels[3000:, None]).numpy()
    worth = estimate(fitted.head, logits[3000:])
    assert reliability(worth[0][:, 0], right[:, 0]).error < 3
    assert reliability(worth[0][:, 1], right[:, 1]).error < 3
    assert reliability(worth[1][:, 0], right[:, 1]).error < 3
    confidence = logits[3000:, 0].softmax(-1).amax(-1).numpy()
    assert reliability(confidence, right[:, 0]).error > 10


def test_no_image_is_judged_by_a_fit_that_saw_it() -> None:
    """With labels by chance a fit that saw an image would be better than one half on it."""
    logits, _ = answers(400)
    labels = torch.randint(4, (400,), generator=torch.Generator().manual_seed(5))
    fitted = cross_fit(logits, labels)
    right = (logits.argmax(-1) == labels[:, None]).numpy()
    seen = np.corrcoef(estimate(fitted.head, logits)[0][:, 0], right[:, 0])[0, 1]
    held = np.corrcoef(fitted.estimates[0][:, 0], right[:, 0])[0, 1]
    assert held < 0.1 < seen


def test_a_head_that_was_not_fitted_says_one_half() -> None:
    logits, _ = answers(5)
    head = WorthHead(3, 4)
    assert [tuple(head(logits[:, 0], number).shape) for number in range(3)] == [(5, 3), (5, 2), (5, 1)]
    assert torch.all(head(logits[:, 0], 0) == 0.5)


def test_features_of_a_sure_answer_are_finite() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]])
    assert torch.isfinite(features(logits)).all()


def test_more_agreement_is_more_worth() -> None:
    logits, labels = answers(3000)
    head = fit(logits, labels)
    sure, unsure = torch.tensor([[12.0, 0, 0, 0]]), torch.tensor([[0.6, 0.5, 0, 0]])
    assert head(sure, 0)[0, 0] > 0.8 > 0.6 > head(unsure, 0)[0, 0]


def test_reliability_compares_bins_of_equal_count() -> None:
    estimated = np.linspace(0, 1, 30 * NUM_BINS, dtype=np.float32)
    told = reliability(estimated, np.zeros(30 * NUM_BINS, dtype=bool))
    assert len(told.estimated) == NUM_BINS
    assert told.error == pytest.approx(50, abs=0.1)
