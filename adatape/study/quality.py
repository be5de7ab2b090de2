"""Accuracy and cost of any model on a split.

Shape legend: B batch, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from adatape.baselines.depth import DepthOutput
from adatape.curve import wilson_interval
from adatape.data import Split
from adatape.flops import stage_flops
from adatape.transformer import Output, Transformer, to_inputs

BATCH_SIZE = 400


@torch.no_grad()
def quality(model: Transformer, split: Split, cap: int | None = None) -> dict[str, Any]:
    """Return accuracy with its 95 % interval, and mean tape length, depth and useful FLOPs, at a cap."""
    correct, costs = 0, []
    for start in range(0, len(split), BATCH_SIZE):
        x, y_B = (torch.from_numpy(part[start : start + BATCH_SIZE]) for part in (split.x, split.y))
        output = model(to_inputs(x, model.config), cap)
        correct += int((output.logits_BC.argmax(1) == y_B).sum())
        costs.append(sample_costs(model, output))
    low, high = wilson_interval(correct, len(split))
    means = {name: float(torch.cat([cost[name] for cost in costs]).double().mean()) for name in costs[0]}
    interval = {"accuracy_low": low, "accuracy_high": high}
    return {"accuracy": correct / len(split), **interval, "num_samples": len(split), **means}


def sample_costs(model: Transformer, output: Output) -> dict[str, Tensor]:
    """Return each sample's tape length, depth and useful FLOPs, [B] each."""
    depth_B = torch.full((len(output.logits_BC),), float(model.config.depth))
    if isinstance(output, DepthOutput):
        return {"tape": torch.zeros_like(depth_B), "depth": output.depth_B, "flops": output.flops_B}
    tape_B = output.reads[-1].length_B if output.reads else torch.zeros_like(depth_B).long()
    cost = stage_flops(model.config)
    cap = None if output.reads else 0
    by_length = torch.tensor([cost.total(length, cap) for length in range(len(cost.trunk))])
    return {"tape": tape_B.float(), "depth": depth_B, "flops": by_length[tape_B]}
