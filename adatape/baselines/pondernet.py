"""PonderNet: a learned distribution over the step at which to answer.

Shape legend: B batch, S tokens, D dim, C classes, T steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adatape.baselines.depth import DepthModel, DepthOutput
from adatape.config import ModelConfig
from adatape.loss import classification_loss
from adatape.transformer import Output


@dataclass(frozen=True, slots=True)
class PonderConfig:
    """How PonderNet halts.

    The prior is geometric with rate `prior_rate`, so about 1 / prior_rate steps; the divergence from it counts
    `ponder_weight` in training.
    """

    max_steps: int
    shares_block: bool
    prior_rate: float = 0.3
    halting_bias: float = -1.0
    ponder_weight: float = 0.01


@dataclass(slots=True, kw_only=True)
class PonderOutput(DepthOutput):
    """A `DepthOutput` with every step's own answer. Shapes: step_logits_BTC."""

    step_logits_BTC: Tensor


class PonderNet(DepthModel):
    """A transformer with an answer at every step, and a probability of stopping there.

    In training each step's loss counts by the probability of halting at it. In evaluation a sample takes the answer
    of the first step at which it has more likely halted than not.
    Source: Banino et al. 2021; scenic projects/baselines/pondernet.
    Differs: evaluation takes the median of the halting distribution instead of a draw from it, and stops when every
    sample of the batch has its answer; the last step takes what probability is left.
    """

    def __init__(self, config: ModelConfig, ponder: PonderConfig) -> None:
        super().__init__(config, ponder.max_steps, shares_block=ponder.shares_block, halting_bias=ponder.halting_bias)
        self.ponder = ponder

    @property
    def ponder_weight(self) -> float:
        return self.ponder.ponder_weight

    def forward(self, inputs: Tensor, _max_tape: Tensor | int | None = None) -> PonderOutput:
        """Classify; a cap is of no effect, for there is no tape."""
        x_BSD = self.tokenise(inputs)
        left_B = x_BSD.new_ones(len(x_BSD), dtype=torch.float32)
        logits, halting = [], []
        for step in range(self.max_steps):
            x_BSD = self.take_step(x_BSD, step)
            rate_B = self.halting_probability(x_BSD)
            halting.append(left_B if step == self.max_steps - 1 else left_B * rate_B)
            left_B = left_B - halting[-1]
            logits.append(self.classify(x_BSD))
            if not self.training and bool((left_B <= 0.5).all()):
                break
        halting_BT, logits_BTC = torch.stack(halting, 1), torch.stack(logits, 1)
        stop_B = (halting_BT.cumsum(1) < 0.5).sum(1).clamp(max=len(halting) - 1)
        return PonderOutput(
            logits_BTC[torch.arange(len(stop_B)), stop_B],
            self._divergence(halting_BT) if self.training else torch.zeros_like(left_B),
            depth_B=stop_B + 1.0,
            flops_B=self._flops(stop_B + 1),
            halting_BT=halting_BT,
            step_logits_BTC=logits_BTC,
        )

    def losses(self, output: Output, targets_BC: Tensor, kind: str, label_smoothing: float) -> Tensor:
        """Return each sample's loss, expected over the step at which it halts."""
        assert isinstance(output, PonderOutput), "This is a bug."
        assert output.halting_BT is not None, "This is a bug."
        steps = [
            classification_loss(logits_BC.float(), targets_BC, kind, label_smoothing)
            for logits_BC in output.step_logits_BTC.unbind(1)
        ]
        return (output.halting_BT * torch.stack(steps, 1)).sum(1)

    def _flops(self, depth_B: Tensor) -> Tensor:
        head = 2 * self.config.dim * self.config.num_classes
        return self.fixed_flops() + depth_B * (self.step_flops() + head) - head

    def _divergence(self, halting_BT: Tensor) -> Tensor:
        """Return the divergence of each halting distribution from the prior, cut off at as many steps."""
        rate, num_steps = self.ponder.prior_rate, halting_BT.shape[1]
        prior_T = rate * (1 - rate) ** torch.arange(num_steps, device=halting_BT.device, dtype=torch.float32)
        prior_T[-1] = 1 - prior_T[:-1].sum()
        halting_BT = halting_BT.clamp(min=1e-8)
        return (halting_BT * (halting_BT.log() - prior_T.log())).sum(1)
