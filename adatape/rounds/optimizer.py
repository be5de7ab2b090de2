"""One optimiser for both kinds of weights: Muon for hidden matrices, AdamW for the rest.

Source: Jordan et al. 2024 (Muon); Liu et al. 2025, whose factor gives a matrix's update the size of AdamW's, so that
one learning rate and one weight decay fit both.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, BETAS, EPS = 0.95, (0.9, 0.98), 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic whose repetition moves all singular values of a matrix near 1."""


def orthogonalise(update: Tensor, num_steps: int = 5) -> Tensor:
    """Return a matrix with the singular vectors of `update` and singular values near 1."""
    a, b, c = NEWTON_SCHULZ
    x = update / (update.norm() + 1e-7)
    is_tall = x.shape[0] > x.shape[1]
    if is_tall:
        x = x.T
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Groups with `is_hidden` are stepped by Muon, the others by AdamW.

    A convolution's kernel counts as the matrix [out, in * height * width].
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "is_hidden": False})
        for group in self.param_groups:
            for parameter in group["params"]:
                moments = ("momentum",) if group["is_hidden"] else ("mean", "square")
                self.state[parameter] = {name: torch.zeros_like(parameter) for name in moments}
        self.num_steps = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002  # nothing here asks twice
        """Make one step with the gradients at hand."""
        self.num_steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = (_muon if group["is_hidden"] else self._adam)(parameter.grad, self.state[parameter])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view_as(parameter), alpha=-group["lr"])

    def _adam(self, gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        mean = state["mean"] / (1 - BETAS[0] ** self.num_steps)
        return mean / ((state["square"] / (1 - BETAS[1] ** self.num_steps)).sqrt() + EPS)


def _muon(gradient: Tensor, state: dict[str, Tensor]) -> Tensor:
    state["momentum"].mul_(MOMENTUM).add_(gradient)
    matrix = (gradient + MOMENTUM * state["momentum"]).flatten(1)
    return orthogonalise(matrix) * (0.2 * max(matrix.shape) ** 0.5)


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> MuonAdamW:
    """Give hidden matrices to Muon; heads, first layers, embeddings, norms and biases to AdamW."""
    hidden: list[Tensor] = []
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and min(parameter.shape[0], parameter[0].numel()) >= 8
        is_end = "head" in name or "position" in name or "readout" in name or parameter.shape[1:2] == (3,)
        (hidden if is_matrix and not is_end else decayed if is_matrix and "head" in name else others).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": hidden, "weight_decay": weight_decay, "is_hidden": True},
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others},
    ]
    return MuonAdamW([group for group in groups if group["params"]], lr)
