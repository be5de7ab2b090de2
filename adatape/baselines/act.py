"""Adaptive computation time (ACT): repeat a block until a learned halting weight is spent.

Shape legend: B batch, R samples that still run, S tokens, D dim, T steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adatape.baselines.depth import DepthModel, DepthOutput
from adatape.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ActConfig:
    """How ACT halts.

    A sample stops when its halting probabilities sum to 1 - `epsilon`, at the latest after `max_steps`.
    """

    max_steps: int
    shares_block: bool
    epsilon: float = 0.01
    halting_bias: float = -1.0
    ponder_weight: float = 0.01


class ActTransformer(DepthModel):
    """A Universal Transformer with ACT (one shared block: on images U2T), or UViT (a block a step).

    Every sample ends with the mean of its states, weighted by its halting probabilities; its last step takes what
    is left to 1. Samples that have halted leave the batch, so halting saves compute.
    Source: Graves 2016; Dehghani et al. 2018; scenic projects/baselines/universal_transformer.
    Differs: halting is for each sample, from the mean of its tokens; learned step embeddings, with a shared block
    only; the ponder cost is the number of steps plus the remainder, averaged over samples.
    """

    def __init__(self, config: ModelConfig, act: ActConfig) -> None:
        super().__init__(config, act.max_steps, shares_block=act.shares_block, halting_bias=act.halting_bias)
        self.act = act

    @property
    def ponder_weight(self) -> float:
        return self.act.ponder_weight

    def forward(self, inputs: Tensor, _max_tape: Tensor | int | None = None) -> DepthOutput:
        """Classify; a cap is of no effect, for there is no tape."""
        state_RSD = self.tokenise(inputs)
        mean_BSD = torch.zeros_like(state_RSD)
        batch = len(state_RSD)
        spent_B, remainder_B = state_RSD.new_zeros(batch), state_RSD.new_zeros(batch)
        weights, depth_B = [], torch.zeros(batch, device=inputs.device)
        running_R = torch.arange(batch, device=inputs.device)
        for step in range(self.max_steps):
            state_RSD = self.take_step(state_RSD, step)
            p_R = self.halting_probability(state_RSD)
            left_R = 1 - spent_B[running_R]
            halts_R = (p_R >= left_R - self.act.epsilon) | (step == self.max_steps - 1)
            w_R = torch.where(halts_R, left_R, p_R)
            mean_BSD = mean_BSD.index_add(0, running_R, (w_R[:, None, None] * state_RSD).to(mean_BSD.dtype))
            spent_B = spent_B.index_add(0, running_R, w_R)
            remainder_B = remainder_B.index_add(0, running_R, torch.where(halts_R, left_R, 0.0))
            depth_B[running_R] += 1
            weights.append(torch.zeros_like(spent_B).index_add(0, running_R, w_R))
            running_R, state_RSD = running_R[~halts_R], state_RSD[~halts_R]
            if len(running_R) == 0:
                break
        flops_B = self.fixed_flops() + depth_B * self.step_flops()
        return DepthOutput(
            self.classify(mean_BSD),
            depth_B + remainder_B,
            depth_B=depth_B,
            flops_B=flops_B,
            halting_BT=torch.stack(weights, 1),
        )
