"""What the depth-adaptive baselines share: what a pass yields, and their cost.

Shape legend: B batch, S tokens, D dim, C classes, T steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adatape.config import ModelConfig
from adatape.flops import FLOPS_PER_MULTIPLY_ADD, block_multiply_adds, embedding_multiply_adds
from adatape.transformer import Output, Transformer


@dataclass(slots=True, kw_only=True)
class DepthOutput(Output):
    """An `Output` with what it cost each sample.

    Shapes: depth_B is the number of blocks that a sample's tokens passed, on average over its tokens; flops_B its
    useful FLOPs; halting_BT, where the model has one, how much each step counts in its answer.
    """

    depth_B: Tensor
    flops_B: Tensor
    halting_BT: Tensor | None = None


class DepthModel(Transformer):
    """A transformer that decides how many steps an input deserves; it reads no tape.

    Each step is a block of its own, or with `shares_block` the same one, told by a learned embedding where it is.
    Raises: ValueError for a config with a tape, or another number of unshared steps than the depth.
    """

    def __init__(self, config: ModelConfig, max_steps: int, *, shares_block: bool, halting_bias: float) -> None:
        if config.tape is not None:
            raise ValueError(f"tape of a baseline; got {config.tape}; expected None")
        if not shares_block and max_steps != config.depth:
            raise ValueError(f"max_steps without a shared block; got {max_steps}; expected the depth, {config.depth}")
        super().__init__(config, 1 if shares_block else config.depth)
        self.max_steps = max_steps
        self.steps = nn.Parameter(torch.randn(max_steps, config.dim) * 0.02) if shares_block else None
        self.halting = nn.Linear(config.dim, 1)
        nn.init.zeros_(self.halting.weight)
        nn.init.constant_(self.halting.bias, halting_bias)

    def take_step(self, x_BSD: Tensor, step: int) -> Tensor:
        """Run one step's block."""
        return self.blocks[step](x_BSD) if self.steps is None else self.blocks[0](x_BSD + self.steps[step])

    def halting_probability(self, x_BSD: Tensor) -> Tensor:
        """Return the probability of stopping here, from the mean of a sample's tokens: [B]."""
        return self.halting(x_BSD.mean(1)).float().sigmoid()[:, 0]

    def fixed_flops(self) -> int:
        """Return what every sample pays: tokenising and the head."""
        config = self.config
        return FLOPS_PER_MULTIPLY_ADD * (embedding_multiply_adds(config) + config.dim * config.num_classes)

    def step_flops(self) -> int:
        """Return what a step costs, the decision to halt included."""
        config = self.config
        return FLOPS_PER_MULTIPLY_ADD * (block_multiply_adds(config, config.num_tokens) + config.dim)
