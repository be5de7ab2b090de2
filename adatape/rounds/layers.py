"""Layers of the rounds models and their rivals.

Shape legend: B batch, C channels, H height, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adatape.layers import GluMlp, Mlp, layer_norm


class ConvNorm(nn.Module):
    """Convolution, optional 2x2 max pooling, batch norm, optional ReLU.

    Pooling before the norm leaves the norm and the ReLU a quarter of the work.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        pool: bool = False,
        has_relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.pool, self.has_relu = pool, has_relu

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv(x_BCHW)
        if self.pool:
            y_BCHW = F.max_pool2d(y_BCHW, 2)
        y_BCHW = self.norm(y_BCHW)
        return torch.relu(y_BCHW) if self.has_relu else y_BCHW


class RoundBlock(nn.Module):
    """Pre-norm transformer block whose tape tokens have a feed-forward network of their own.

    Keys and values of tokens seen in earlier rounds are handed in as `past`, so a round computes only its own tokens.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, tape_ffn_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = layer_norm(dim), layer_norm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp, self.tape_mlp = Mlp(dim, mlp_dim), GluMlp(dim, tape_ffn_dim)

    def forward(
        self, x_BLD: Tensor, mask_LK: Tensor, num_glance: int, past_2BKD: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens and the keys and values [2,B,K,D] of past and present.

        Shapes: the first `num_glance` of x_BLD are the glance's tokens, the others tape; mask_LK is true where a token
        may look, over past and present.
        """
        batch, length, dim = x_BLD.shape
        q_BLD, k_BLD, v_BLD = self.qkv(self.norm1(x_BLD)).chunk(3, dim=-1)
        seen_2BKD = torch.stack([k_BLD, v_BLD])
        if past_2BKD is not None:
            seen_2BKD = torch.cat([past_2BKD, seen_2BKD], dim=2)
        q, k, v = (
            heads.view(batch, -1, self.num_heads, dim // self.num_heads).transpose(1, 2)
            for heads in (q_BLD, *seen_2BKD)
        )
        scores_BHLK = (q * (dim // self.num_heads) ** -0.5) @ k.transpose(-2, -1)
        scores_BHLK = scores_BHLK.masked_fill(~mask_LK, torch.finfo(scores_BHLK.dtype).min)
        mixed = scores_BHLK.softmax(dim=-1).to(v.dtype) @ v
        x_BLD = x_BLD + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        y_BLD = self.norm2(x_BLD)
        own, tape = self.mlp(y_BLD[:, :num_glance]), self.tape_mlp(y_BLD[:, num_glance:])
        return x_BLD + torch.cat([own, tape], dim=1), seen_2BKD
