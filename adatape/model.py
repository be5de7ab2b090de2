"""The AdaTape transformer: embed, read a tape, run the trunk over tokens and tape.

Shape legend: B batch, S input tokens, N tape capacity, T tape in this run, L = S + all tape, D dim, C classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adatape.bank import ImageBank, LearnedBank, SymbolBank, lecun_normal_, patch_embedding
from adatape.config import ModelConfig
from adatape.layers import Block, layer_norm
from adatape.reader import TapeRead, TapeReader

HEAD_BIAS = -6.9
"""The official initial head bias: every class starts near probability 0.001 under a sigmoid."""


def scale_pixels(pixels: Tensor) -> Tensor:
    """Map uint8 pixels to [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_inputs(raw: Tensor, config: ModelConfig) -> Tensor:
    """Turn stored data into what `AdaTape.forward` takes: pixels into [-1, 1], symbols 0..2 into one-hot vectors."""
    return scale_pixels(raw) if config.input == "image" else F.one_hot(raw.long(), 3).float()


@dataclass(slots=True)
class Output:
    """What one forward pass yields.

    Shapes: logits_BC; ponder_B; mask_BL is 1 for tokens and for tape slots in use; reads has one entry a tape layer.
    """

    logits_BC: Tensor
    ponder_B: Tensor
    mask_BL: Tensor | None
    reads: tuple[TapeRead, ...]


class AdaTape(nn.Module):
    """A vision or parity transformer that reads a variable number of tape tokens for each input.

    Source: Xue et al. 2023; scenic projects/adatape.
    Differs: see TapeReader; pooling leaves out empty tape slots unless `config.compat`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        dim, tape = config.dim, config.tape
        is_image = config.input == "image"
        self.embedding = patch_embedding(dim, config.patch) if is_image else nn.Linear(3 * config.seq_len, dim)
        if not is_image:
            lecun_normal_(self.embedding.weight)
            nn.init.zeros_(self.embedding.bias)  # type: ignore[arg-type]
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.has_class_token else None
        self.position = nn.Parameter(torch.randn(1, config.num_tokens, dim) * 0.02) if is_image else None
        self.dropout = nn.Dropout(config.dropout if is_image else 0.0)
        self.bank: nn.Module | None = None
        self.banks, self.readers = nn.ModuleList(), nn.ModuleList()
        if tape:
            if tape.bank == "input":
                self.bank = ImageBank(config, tape) if is_image else SymbolBank(config)
            else:
                self.banks.extend(LearnedBank(tape.bank_size, dim) for _ in tape.layers)
            self.readers.extend(
                TapeReader(tape, dim, dropout=config.dropout, compat=config.compat) for _ in tape.layers
            )
        self.blocks = nn.ModuleList(self._block(index) for index in range(config.depth))
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
    def split(self) -> int:
        """The block before which the first tape is read: where the reader ends and the trunk begins."""
        return self.config.tape.layers[0] if self.config.tape else self.config.depth

    def forward(self, inputs: Tensor, max_tape: Tensor | int | None = None) -> Output:
        """Classify; inputs are [B,H,W,3] in [-1,1], or one-hot symbols [B,L,3].

        `max_tape` caps every tape: an int for the whole batch (fewer steps run) or one cap a sample.
        """
        x_BLD = self.embed(inputs)
        tape = None if isinstance(max_tape, int) and max_tape == 0 else self.config.tape
        bank_BMD = self.build_bank(inputs) if tape else None
        mask_BL, reads = None, []
        for index in range(self.split, self.config.depth):
            if tape and index in tape.layers:
                read = self.read(x_BLD, mask_BL, bank_BMD, tape.layers.index(index), max_tape)
                x_BLD, mask_BL = self._with_tape(x_BLD, mask_BL, read.tape_BND, read.length_B)
                reads.append(read)
            x_BLD = self.blocks[index](x_BLD, mask_BL, self.config.num_tokens if reads else None)
        logits_BC = self.head(self._pooled(self.norm(x_BLD), mask_BL))
        return Output(logits_BC, self._ponder(reads, x_BLD), mask_BL, tuple(reads))

    def embed(self, inputs: Tensor) -> Tensor:
        """Tokenise and run the blocks that come before the first tape: [B,S,D]."""
        if self.config.input == "image":
            x_BLD = self.embedding(self._layout(inputs)).flatten(2).transpose(1, 2)
        else:
            x_BLD = self.embedding(inputs.flatten(1))[:, None]
        if self.class_token is not None:
            x_BLD = torch.cat([self.class_token.expand(len(x_BLD), -1, -1).to(x_BLD.dtype), x_BLD], dim=1)
        if self.position is not None:
            x_BLD = self.dropout(x_BLD + self.position)
        for block in self.blocks[: self.split]:
            x_BLD = block(x_BLD)
        return x_BLD

    def build_bank(self, inputs: Tensor) -> Tensor | None:
        """Return the input-driven bank [B,M,D] that all tape layers share; None where there is none."""
        return None if self.bank is None else self.bank(self._layout(inputs))

    def read(
        self, x_BLD: Tensor, mask_BL: Tensor | None, bank_BMD: Tensor | None, layer: int, max_tape: Tensor | int | None
    ) -> TapeRead:
        """Read the tape of the `layer`-th tape layer, given the sequence so far."""
        tape = self.config.tape
        assert tape is not None, "This is a bug."
        query_BD = x_BLD[:, 0] if tape.query == "token" else self._mean(x_BLD, mask_BL)
        entries_BMD = self.banks[layer](len(x_BLD)) if bank_BMD is None else bank_BMD
        read: TapeRead = self.readers[layer](query_BD, entries_BMD, max_tape)
        return read

    def trunk(self, hidden_BSD: Tensor, tape_BTD: Tensor, tape_length_B: Tensor) -> Tensor:
        """Run the remaining blocks over tokens and one tape whose rows past the length are padding.

        The answer does not depend on T, as long as it holds the tape.
        """
        x_BLD, mask_BL = self._with_tape(hidden_BSD, None, tape_BTD, tape_length_B)
        for block in self.blocks[self.split :]:
            x_BLD = block(x_BLD, mask_BL, self.config.num_tokens)
        logits_BC: Tensor = self.head(self._pooled(self.norm(x_BLD), mask_BL))
        return logits_BC

    def _with_tape(
        self, x_BLD: Tensor, mask_BL: Tensor | None, tape_BTD: Tensor, length_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        slots_T = torch.arange(tape_BTD.shape[1], device=x_BLD.device)
        if mask_BL is None:
            mask_BL = torch.ones_like(x_BLD[..., 0], dtype=torch.bool)
        mask_BL = torch.cat([mask_BL, slots_T < length_B[:, None]], dim=1)
        return torch.cat([x_BLD, tape_BTD.to(x_BLD.dtype)], dim=1), mask_BL

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

    def _ponder(self, reads: list[TapeRead], x_BLD: Tensor) -> Tensor:
        if not reads:
            return x_BLD.new_zeros(len(x_BLD), dtype=torch.float32)
        if self.config.compat:
            return reads[-1].ponder_B
        return torch.stack([read.ponder_B for read in reads]).sum(0)
