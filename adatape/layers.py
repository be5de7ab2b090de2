"""Transformer layers: attention, feed-forward networks and the pre-norm block.

Shape legend: B batch, S input tokens, T tape tokens, L = S + T, D dim, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LN_EPS = 1e-6


def layer_norm(dim: int) -> nn.LayerNorm:
    """Return a LayerNorm with the official epsilon."""
    return nn.LayerNorm(dim, eps=LN_EPS)


class Attention(nn.Module):
    """Multi-head self-attention whose mask hides keys, for every head and query."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        for kernel in (*self.qkv.weight.chunk(3), self.out.weight):
            nn.init.xavier_uniform_(kernel)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None) -> Tensor:
        batch, length, dim = x_BLD.shape
        heads = self.qkv(x_BLD).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        # Written out: at these lengths it trains faster on a CPU than the fused kernel, and exports to plain nodes.
        scores_BHLL = (q * (dim // self.num_heads) ** -0.5) @ k.transpose(-2, -1)
        if mask_BL is not None:
            scores_BHLL = scores_BHLL.masked_fill(~mask_BL[:, None, None, :], torch.finfo(scores_BHLL.dtype).min)
        mixed = scores_BHLL.softmax(dim=-1).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))


class Mlp(nn.Module):
    """Linear, GELU (tanh form), linear."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        _init_ffn(self.up, self.down)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.dropout(F.gelu(self.up(x), approximate="tanh"))))


class GluMlp(nn.Module):
    """Linear to twice the width, gated linear unit, linear: the tape's own network."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 2 * hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        _init_ffn(self.up, self.down)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.dropout(F.glu(self.up(x), dim=-1))))


class Block(nn.Module):
    """Pre-norm transformer block; with `tape_ffn_dim` the tape tokens have a feed-forward network of their own.

    `drop_path` is the probability of leaving out a residual branch for a sample in training.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        *,
        tape_ffn_dim: int = 0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = layer_norm(dim)
        self.attention = Attention(dim, num_heads)
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim, mlp_dim, dropout)
        self.tape_mlp = GluMlp(dim, tape_ffn_dim, dropout) if tape_ffn_dim else None
        self.dropout = nn.Dropout(dropout)
        self.drop_path = drop_path

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None = None, num_tokens: int | None = None) -> Tensor:
        """Run the block; positions from `num_tokens` on are tape."""
        x_BLD = x_BLD + self._kept(self.dropout(self.attention(self.norm1(x_BLD), mask_BL)))
        return x_BLD + self._kept(self._feed_forward(self.norm2(x_BLD), num_tokens))

    def _feed_forward(self, y_BLD: Tensor, num_tokens: int | None) -> Tensor:
        if self.tape_mlp is None or num_tokens is None:
            return self.mlp(y_BLD)
        own, tape = y_BLD[:, :num_tokens], y_BLD[:, num_tokens:]
        return torch.cat([self.mlp(own), self.tape_mlp(tape)], dim=1)

    def _kept(self, branch_BLD: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch_BLD
        keep = 1 - self.drop_path
        draws_B11 = torch.rand(len(branch_BLD), 1, 1, device=branch_BLD.device) < keep
        return branch_BLD * draws_B11.to(branch_BLD.dtype) / keep


def _init_ffn(*layers: nn.Linear) -> None:
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.normal_(layer.bias, std=1e-6)
