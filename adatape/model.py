"""The AdaTape transformer: embed, read a tape, run the trunk over tokens and tape.

Shape legend: B batch, S input tokens, N tape capacity, T tape in this run, L = S + all tape, D dim, C classes.
"""

import torch
from torch import Tensor, nn

from adatape.bank import ImageBank, LearnedBank, SymbolBank
from adatape.config import ModelConfig
from adatape.reader import TapeRead, TapeReader
from adatape.transformer import Output, Transformer


class AdaTape(Transformer):
    """A vision or parity transformer that reads a variable number of tape tokens for each input.

    Source: Xue et al. 2023; scenic projects/adatape.
    Differs: see TapeReader; pooling leaves out empty tape slots unless `config.compat`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        dim, tape = config.dim, config.tape
        self.bank: nn.Module | None = None
        self.banks, self.readers = nn.ModuleList(), nn.ModuleList()
        if tape:
            if tape.bank == "input":
                self.bank = ImageBank(config, tape) if config.input == "image" else SymbolBank(config)
            else:
                self.banks.extend(LearnedBank(tape.bank_size, dim) for _ in tape.layers)
            self.readers.extend(
                TapeReader(tape, dim, dropout=config.dropout, compat=config.compat) for _ in tape.layers
            )

    @property
    def ponder_weight(self) -> float:
        return self.config.tape.ponder_weight if self.config.tape else 0.0

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
        return Output(self.classify(x_BLD, mask_BL), self._ponder(reads, x_BLD), mask_BL, tuple(reads))

    def embed(self, inputs: Tensor) -> Tensor:
        """Tokenise and run the blocks that come before the first tape: [B,S,D]."""
        x_BLD = self.tokenise(inputs)
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
        return self.classify(x_BLD, mask_BL)

    def _with_tape(
        self, x_BLD: Tensor, mask_BL: Tensor | None, tape_BTD: Tensor, length_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        slots_T = torch.arange(tape_BTD.shape[1], device=x_BLD.device)
        if mask_BL is None:
            mask_BL = torch.ones_like(x_BLD[..., 0], dtype=torch.bool)
        mask_BL = torch.cat([mask_BL, slots_T < length_B[:, None]], dim=1)
        return torch.cat([x_BLD, tape_BTD.to(x_BLD.dtype)], dim=1), mask_BL

    def _ponder(self, reads: list[TapeRead], x_BLD: Tensor) -> Tensor:
        if not reads:
            return x_BLD.new_zeros(len(x_BLD), dtype=torch.float32)
        if self.config.compat:
            return reads[-1].ponder_B
        return torch.stack([read.ponder_B for read in reads]).sum(0)
