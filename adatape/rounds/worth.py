"""Worth: how likely the answer at a prefix is right, and would be at each later one.

A small logistic function of what the answer says of itself, fitted after training on images that training never saw.
Shape legend: N images, P prefixes, F features, C classes, K folds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NUM_FOLDS, NUM_BINS = 5, 15
L2 = 1e-4
MAX_ODDS, MASKED = 16.0, -1e9


class WorthHead(nn.Module):
    """Estimates, at each prefix, the accuracy there and at each later prefix; zero weights say one half."""

    def __init__(self, num_prefixes: int, num_classes: int) -> None:
        super().__init__()
        layers = [nn.Linear(4 + num_classes, num_prefixes - number) for number in range(num_prefixes)]
        for layer in layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.by_prefix = nn.ModuleList(layers)

    def forward(self, logits_NC: Tensor, number: int) -> Tensor:
        """Return `accuracy_at` [N,P-number] of the answers at one prefix."""
        accuracy_at: Tensor = torch.sigmoid(self.by_prefix[number](features(logits_NC)))
        return accuracy_at


def features(logits_NC: Tensor) -> Tensor:
    """Return what an answer says of itself [N,4+C]: log odds, their square, margin, entropy, and the class it names.

    The odds are taken from the logits, since a probability near 1 has lost them to rounding.
    """
    top_N2 = logits_NC.topk(2, dim=-1).values
    named_NC = logits_NC >= top_N2[:, :1]
    rest_N = logits_NC.masked_fill(named_NC, MASKED).logsumexp(-1)
    odds_N = (top_N2[:, 0] - rest_N).clamp(-MAX_ODDS, MAX_ODDS) / 4
    log_NC = logits_NC.log_softmax(-1)
    entropy_N = -(log_NC.exp() * log_NC).sum(-1)
    margin_N = log_NC.exp().topk(2, dim=-1).values.diff(dim=-1)[:, 0].neg()
    measures = torch.stack([odds_N, odds_N.square(), margin_N, entropy_N], dim=1)
    return torch.cat([measures, named_NC.to(logits_NC.dtype)], dim=1)


@dataclass(frozen=True, slots=True)
class CrossFit:
    """A fitted head and the estimates of heads that had not seen the image they judge.

    Shapes: estimates[i] is `accuracy_at` [N,P-i], out of fold.
    """

    head: WorthHead
    estimates: tuple[NDArray[np.float32], ...]


def cross_fit(logits_NPC: Tensor, labels_N: Tensor, *, seed: int = 0) -> CrossFit:
    """Fit the head on all images, and once without each fifth to estimate that fifth."""
    fold_N = torch.randperm(len(labels_N), generator=torch.Generator().manual_seed(seed)) % NUM_FOLDS
    num_prefixes = logits_NPC.shape[1]
    estimates = [torch.empty(len(labels_N), num_prefixes - number) for number in range(num_prefixes)]
    for fold in range(NUM_FOLDS):
        held_N = fold_N == fold
        head = fit(logits_NPC[~held_N], labels_N[~held_N])
        for number, estimate in enumerate(estimates):
            estimate[held_N] = head(logits_NPC[held_N, number], number)
    return CrossFit(fit(logits_NPC, labels_N), tuple(estimate.numpy() for estimate in estimates))


def fit(logits_NPC: Tensor, labels_N: Tensor) -> WorthHead:
    """Return the head of largest penalised likelihood."""
    num_prefixes, num_classes = logits_NPC.shape[1:]
    right_NP = (logits_NPC.argmax(-1) == labels_N[:, None]).float()
    head = WorthHead(num_prefixes, num_classes)
    for number, layer in enumerate(head.by_prefix):
        _fit_layer(layer, features(logits_NPC[:, number].float()), right_NP[:, number:])
    return head.requires_grad_(False)


def _fit_layer(layer: nn.Module, features_NF: Tensor, right_NP: Tensor) -> None:
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.binary_cross_entropy_with_logits(layer(features_NF), right_NP)
        value = value + L2 * sum(parameter.square().sum() for parameter in layer.parameters())
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]


@torch.no_grad()
def estimate(head: WorthHead, logits_NPC: Tensor) -> tuple[NDArray[np.float32], ...]:
    """Return `accuracy_at` at each prefix."""
    return tuple(head(logits_NPC[:, number], number).numpy() for number in range(logits_NPC.shape[1]))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Estimated and observed accuracy of equally many images each, from the least sure to the surest."""

    estimated: tuple[float, ...]
    observed: tuple[float, ...]

    @property
    def error(self) -> float:
        """The mean distance between the two, in points."""
        return 100 * float(np.mean(np.abs(np.subtract(self.estimated, self.observed))))


def reliability(estimated_N: NDArray[np.float32], right_N: NDArray[np.bool_]) -> Reliability:
    """Compare estimates with what happened, in `NUM_BINS` bins of equal count."""
    bins = np.array_split(np.argsort(estimated_N, kind="stable"), NUM_BINS)
    return Reliability(
        tuple(float(estimated_N[chosen].mean()) for chosen in bins),
        tuple(float(right_N[chosen].mean()) for chosen in bins),
    )
