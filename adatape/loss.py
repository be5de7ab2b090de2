"""What training minimises, one value a sample, and the mean that respects weights.

Shape legend: B batch, C classes.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["sigmoid", "softmax"]


def classification_loss(
    logits_BC: Tensor, targets: Tensor, kind: LossKind | str = "softmax", label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of each sample, summed over classes.

    Shapes: targets are labels [B] or probabilities [B,C]; result [B].
    Raises: ValueError for an unknown kind, smoothing outside 0 to 1, or targets of another shape.
    Differs: `softmax` and smoothing are ours; the official loss is `sigmoid` without smoothing.
    """
    if kind not in ("sigmoid", "softmax"):
        raise ValueError(f"loss; got {kind}; expected sigmoid or softmax")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing; got {label_smoothing}; expected 0 to below 1")
    targets_BC = _probabilities(targets, logits_BC) * (1 - label_smoothing) + label_smoothing / logits_BC.shape[1]
    if kind == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="none").sum(dim=1)
    return -(targets_BC * logits_BC.log_softmax(dim=1)).sum(dim=1)


def weighted_mean(values_B: Tensor, weights_B: Tensor | None = None) -> Tensor:
    """Return the mean of `values_B`, each counted `weights_B` times; 0 when the weights sum to 0.

    Differs: the official ponder loss divides by the sum of the weights without weighting the values.
    """
    if weights_B is None:
        return values_B.mean()
    weights_B = weights_B.to(values_B.dtype)
    total = weights_B.sum()
    return (values_B * weights_B).sum() / total.where(total > 0, 1)


def _probabilities(targets: Tensor, logits_BC: Tensor) -> Tensor:
    batch, classes = logits_BC.shape
    if targets.shape == (batch,) and not targets.is_floating_point():
        return F.one_hot(targets.long(), classes).to(logits_BC.dtype)
    if targets.shape == (batch, classes):
        return targets.to(logits_BC.dtype)
    raise ValueError(
        f"targets; got {targets.dtype} {tuple(targets.shape)}; expected labels {(batch,)} or {(batch, classes)}"
    )
