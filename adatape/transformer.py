"""What AdaTape shares with the models it is compared with: embedding, blocks, pooling, head and loss.

Shape legend: B batch, S input tokens, L sequence with all tape, D dim, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adatape.bank import lecun_normal_, patch_embedding
from adatape.config import ModelConfig
from adatape.layers import Block, layer_norm
from adatape.loss import classification_loss
from adatape.reader import TapeRead

HEAD_BIAS = -6.9
"""The official initial head bias: every class starts near probability 0.001 under a sigmoid."""


def scale_pixels(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_inputs(raw: Tensor, config: ModelConfig) -> Tensor:
    """Turn stored data into what a model takes: pixels into [-1,1], symbols 0..2 into one-hot vectors, 3 into zeros."""
    return scale_pixels(raw) if config.input == "image" else spread_symbols(raw.long() - 1)


def spread_symbols(symbols_BL: Tensor) -> Tensor:
    """Turn symbols -1, 0 and 1 into one-hot vectors [B,L,3], and any other, a blank, into zeros."""
    kinds_3 = torch.tensor([-1, 0, 1], dtype=symbols_BL.dtype, device=symbols_BL.device)
    return (symbols_BL[..., None] == kinds_3).float()


@dataclass(slots=True)
class Output:
    """What one forward pass yields.

    Shapes: logits_BC; ponder_B; mask_BL is 1 for tokens and for tape slots in use; reads has one entry a tape layer.
    """

    logits_BC: Tensor
    ponder_B: Tensor
    mask_BL: Tensor | None = None
    reads: tuple[TapeRead, ...] = ()


class Transformer(nn.Module):
    """Embedding, pre-norm blocks, norm, pooling and head; a subclass says how a forward pass goes through the blocks.

    `num_blocks` differs from the depth where steps share a block.
    """

    def __init__(self, config: ModelConfig, num_blocks: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = _embedding(config)
        dim, has_positions = config.dim, config.input == "image" or config.symbol_tokens
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.has_class_token else None
        self.position = nn.Parameter(torch.randn(1, config.num_tokens, dim) * 0.02) if has_positions else None
        self.dropout = nn.Dropout(config.dropout if has_positions else 0.0)
        self.blocks = nn.ModuleList(
            self._block(index) for index in range(config.depth if num_blocks is None else num_blocks)
        )
        self.norm = layer_norm(dim)
        self.head = nn.Linear(dim, config.num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, HEAD_BIAS)

    def _block(self, index: int) -> Block:
        config, tape = self.config, self.config.tape
        return Block(
            config.dim,
            config.num_heads,
            config.mlp_dim,
            tape_ffn_dim=tape.tape_ffn_dim if tape and index >= tape.layers[0] else 0,
            dropout=config.dropout,
            drop_path=config.stochastic_depth * index / max(1, config.depth - 1),
        )

    @property
    def ponder_weight(self) -> float:
        """How much a sample's ponder cost counts in training."""
        return 0.0

    def losses(self, output: Output, targets_BC: Tensor, kind: str, label_smoothing: float) -> Tensor:
        """Return each sample's classification loss, [B]."""
        return classification_loss(output.logits_BC.float(), targets_BC, kind, label_smoothing)

    def tokenise(self, inputs: Tensor) -> Tensor:
        """Return the input tokens, with class token and positions: [B,S,D]."""
        if self.config.input == "image":
            x_BLD = self.embedding(self._layout(inputs)).flatten(2).transpose(1, 2)
        else:
            x_BLD = self.embedding(inputs) if self.config.symbol_tokens else self.embedding(inputs.flatten(1))[:, None]
        if self.class_token is not None:
            x_BLD = torch.cat([self.class_token.expand(x_BLD.shape[0], -1, -1).to(x_BLD.dtype), x_BLD], dim=1)
        return x_BLD if self.position is None else self.dropout(x_BLD + self.position)

    def classify(self, x_BLD: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Return the logits of a sequence that has passed its blocks."""
        return self.head(self._pooled(self.norm(x_BLD), mask_BL))

    def _layout(self, inputs: Tensor) -> Tensor:
        return inputs.permute(0, 3, 1, 2) if self.config.input == "image" else inputs

    def _mean(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        if mask_BL is None or self.config.compat:
            return x_BLD.mean(1)
        kept_BL1 = mask_BL[..., None].to(x_BLD.dtype)
        return (x_BLD * kept_BL1).sum(1) / kept_BL1.sum(1)

    def _pooled(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        pooling = self.config.pooling
        if pooling == "token":
            return x_BLD[:, 0]
        if pooling == "gap":
            return self._mean(x_BLD, mask_BL)
        if mask_BL is not None and not self.config.compat:
            empty = float("-inf") if pooling == "gmp" else 0.0
            x_BLD = x_BLD.masked_fill(~mask_BL[..., None], empty)
        return x_BLD.amax(1) if pooling == "gmp" else x_BLD.sum(1)


def _embedding(config: ModelConfig) -> nn.Module:
    if config.input == "image":
        return patch_embedding(config.dim, config.patch)
    linear = nn.Linear(3 if config.symbol_tokens else 3 * config.seq_len, config.dim)
    lecun_normal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
