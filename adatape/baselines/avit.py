"""A-ViT: tokens leave, layer by layer, when their own halting score is spent.

Shape legend: B batch, S tokens, D dim, C classes, T layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adatape.baselines.depth import DepthOutput
from adatape.config import ModelConfig
from adatape.flops import FLOPS_PER_MULTIPLY_ADD, block_multiply_adds, embedding_multiply_adds
from adatape.transformer import Transformer

EPSILON = 0.01


@dataclass(frozen=True, slots=True)
class AvitConfig:
    """How tokens halt.

    A token's halting score after a layer is sigmoid(`gate_scale` * its first feature - `gate_center`).
    `ponder_weight` counts the layers a token lives through; `prior_weight` pulls the mean scores of the layers
    towards a bell around layer `prior_depth`.
    """

    gate_scale: float = 10.0
    gate_center: float = 30.0
    ponder_weight: float = 5e-4
    prior_weight: float = 1e-3
    prior_depth: float = 4.0


class AVit(Transformer):
    """A vision transformer that drops tokens; the answer is the class token's mean over layers, by halting score.

    A token that has halted never comes back: it is no key for others and is no longer updated. In evaluation,
    positions that no sample of the batch needs leave the sequence, so a batch of one computes live tokens only.
    Source: Yin et al. 2022; NVlabs/A-ViT.
    Differs: trained from scratch, not from a trained ViT; all tokens leave with the class token, for its answer is
    then complete; the last layer's score takes what is left to 1; the pull
    towards the prior takes logarithms of normalised layer means.
    Raises: ValueError for a config with a tape, or without a class token.
    """

    def __init__(self, config: ModelConfig, avit: AvitConfig) -> None:
        if config.tape is not None or not config.has_class_token:
            got = f"tape={config.tape}, has_class_token={config.has_class_token}"
            raise ValueError(f"config of A-ViT; got {got}; expected no tape and a class token")
        super().__init__(config)
        self.avit = avit

    @property
    def ponder_weight(self) -> float:
        return self.avit.ponder_weight

    def forward(self, inputs: Tensor, _max_tape: Tensor | int | None = None) -> DepthOutput:
        """Classify; a cap is of no effect, for there is no tape."""
        x_BSD = self.tokenise(inputs)
        live_BS = torch.ones_like(x_BSD[..., 0], dtype=torch.bool)
        spent_BS, ponder_B = torch.zeros_like(x_BSD[..., 0], dtype=torch.float32), x_BSD.new_zeros(len(x_BSD))
        answer_BD, class_weights, scores, num_live = torch.zeros_like(x_BSD[:, 0]), [], [], []
        num_tokens = x_BSD.shape[1]
        for index, block in enumerate(self.blocks):
            if not self.training:
                if not live_BS.any():
                    break
                x_BSD, live_BS, spent_BS = _without_dead(x_BSD, live_BS, spent_BS)
            num_live.append(live_BS.sum(1))
            x_BSD = torch.where(live_BS[..., None], block(x_BSD, live_BS), x_BSD)
            is_last = index == len(self.blocks) - 1
            score_BS = (self.avit.gate_scale * x_BSD[..., 0].float() - self.avit.gate_center).sigmoid()
            left_BS = 1 - spent_BS
            halts_BS = live_BS & ((score_BS >= left_BS - EPSILON) | is_last)
            halts_BS = halts_BS | (live_BS & halts_BS[:, :1])
            w_BS = torch.where(halts_BS, left_BS, score_BS) * live_BS
            # The ponder cost of a token: its layers, and what was left when it halted.
            ponder_B = ponder_B + (live_BS.float() + torch.where(halts_BS, left_BS, 0.0)).sum(1) / num_tokens
            answer_BD = answer_BD + w_BS[:, :1] * x_BSD[:, 0]
            class_weights.append(w_BS[:, 0])
            scores.append((score_BS * live_BS).sum() / live_BS.sum().clamp(min=1))
            spent_BS, live_BS = spent_BS + w_BS, live_BS & ~halts_BS
        live_BT = torch.stack(num_live, 1)
        return DepthOutput(
            self.head(self.norm(answer_BD)),
            ponder_B + self._pull(torch.stack(scores)),
            depth_B=live_BT.sum(1) / num_tokens,
            flops_B=self._flops(live_BT),
            halting_BT=torch.stack(class_weights, 1),
        )

    def _pull(self, scores_T: Tensor) -> Tensor:
        """Return the divergence of the layers' mean scores from the prior, in units of the ponder cost."""
        layers_T = torch.arange(1, len(scores_T) + 1, device=scores_T.device, dtype=torch.float32)
        prior_T = torch.softmax(-0.5 * (layers_T - self.avit.prior_depth) ** 2, 0)
        share_T = (scores_T + 1e-6) / (scores_T + 1e-6).sum()
        divergence = (prior_T * (prior_T.log() - share_T.log())).sum()
        return divergence * self.avit.prior_weight / self.avit.ponder_weight

    def _flops(self, live_BT: Tensor) -> Tensor:
        config = self.config
        by_live = torch.tensor([block_multiply_adds(config, tokens) for tokens in range(config.num_tokens + 1)])
        fixed = embedding_multiply_adds(config) + config.dim * config.num_classes
        return FLOPS_PER_MULTIPLY_ADD * (fixed + by_live.to(live_BT.device)[live_BT].sum(1))


def _without_dead(x_BSD: Tensor, live_BS: Tensor, spent_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move live tokens to the front, in their order, and cut the sequence behind the longest."""
    order_BS = live_BS.int().sort(dim=1, descending=True, stable=True).indices[:, : int(live_BS.sum(1).max())]
    return (
        x_BSD.gather(1, order_BS[..., None].expand(-1, -1, x_BSD.shape[2])),
        live_BS.gather(1, order_BS),
        spent_BS.gather(1, order_BS),
    )
