"""The two halves of a model as the graphs compute them.

Shape legend: B batch, P patches, S input tokens, M bank, K reads a step, N tape capacity, T tape in this graph, D dim,
E key features, C classes.
"""

import copy
import functools

import torch
from torch import Tensor, nn

from adatape.bank import LearnedBank
from adatape.config import TapeConfig
from adatape.model import AdaTape
from adatape.reader import TapeReader
from adatape.transformer import scale_pixels, spread_symbols

Reading = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""tape_BND, tape_length_B1, tape_length_wanted_B1, picks_BNK, pick_weights_BNK."""


class ReaderHalf(nn.Module):
    """Pixels, or symbols, and caps to hidden and tape.

    Nothing is read, and nothing paid for it, when every cap of the batch is 0. A row whose cap is 0 answers
    the same whatever its batch-mates ask for.
    Differs: the same reading as `TapeReader`, with the bookkeeping of all steps done at once after the last.
    """

    def __init__(self, model: AdaTape) -> None:
        super().__init__()
        tape = model.config.tape
        assert tape is not None, "This is a bug."
        self.model = copy.deepcopy(model)
        if isinstance(model.embedding, nn.Conv2d):
            self.model.embedding = PatchProduct(model.embedding)  # it stands for the convolution
        self.prepare = scale_pixels if model.config.input == "image" else spread_symbols
        self.tape = tape

    def forward(self, inputs_BX: Tensor, max_tape_B1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        inputs_BX = self.prepare(inputs_BX)
        hidden_BSD = self.model.embed(inputs_BX)
        cap_B1 = max_tape_B1.clamp(min=0)
        reading: Reading = torch.cond((cap_B1 > 0).any(), self._read, self._skip, (inputs_BX, hidden_BSD, cap_B1))
        return hidden_BSD, *reading

    def _read(self, inputs_BX: Tensor, hidden_BSD: Tensor, cap_B1: Tensor) -> Reading:
        reader = self.model.readers[0]
        assert isinstance(reader, TapeReader), "This is a bug."
        query_BD = hidden_BSD[:, 0] if self.tape.query == "token" else hidden_BSD.mean(1)
        bank_BMD = reader.norm(self._bank(inputs_BX))
        mixing_BNM, picks_BNK, weights_BNK = read_all_steps(reader.norm(query_BD), bank_BMD, self.tape, reader.key_dim)
        wanted_B1 = wanted_length(weights_BNK, self.tape) * (cap_B1 > 0).to(torch.int32)
        length_B1 = torch.minimum(wanted_B1, cap_B1)
        is_used_BN1 = (torch.arange(self.tape.capacity, dtype=torch.int32) < length_B1)[..., None]
        used_BN1 = is_used_BN1.to(weights_BNK.dtype)
        tape_BND = mixing_BNM @ bank_BMD
        if reader.mlp is not None:
            tape_BND = reader.mlp(tape_BND)
        picks_BNK = torch.where(is_used_BN1, picks_BNK, -1).to(torch.int32)
        return tape_BND * used_BN1, length_B1, wanted_B1, picks_BNK, weights_BNK * used_BN1

    def _skip(self, _: Tensor, hidden_BSD: Tensor, cap_B1: Tensor) -> Reading:
        slots = (hidden_BSD.shape[0], self.tape.capacity)
        tape_BND = hidden_BSD.new_zeros(*slots, hidden_BSD.shape[-1])
        weights_BNK = hidden_BSD.new_zeros(*slots, self.tape.reads_per_step)
        picks_BNK = torch.full_like(weights_BNK, -1, dtype=torch.int32)
        return tape_BND, torch.zeros_like(cap_B1), torch.zeros_like(cap_B1), picks_BNK, weights_BNK

    def _bank(self, inputs_BX: Tensor) -> Tensor:
        """[B,M,D], or [1,M,D] where all samples share it."""
        bank_BMD = self.model.build_bank(inputs_BX)
        if bank_BMD is not None:
            return bank_BMD
        learned = self.model.banks[0]
        assert isinstance(learned, LearnedBank), "This is a bug."
        return learned.entries[None]


class PatchProduct(nn.Module):
    """The patch embedding as one matrix product; rounds less than a convolution in onnxruntime and is no slower."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None, "This is a bug."
        self.patch = convolution.kernel_size[0]
        self.weight_ED = nn.Parameter(convolution.weight.detach().flatten(1).T.contiguous())
        self.bias_D = nn.Parameter(convolution.bias.detach())

    def forward(self, image_BCHW: Tensor) -> Tensor:
        batch, channels, height, _ = image_BCHW.shape
        side = height // self.patch
        patches = image_BCHW.reshape(batch, channels, side, self.patch, side, self.patch).permute(0, 2, 4, 1, 3, 5)
        patches_BPE = patches.reshape(batch, side * side, channels * self.patch**2)
        return (patches_BPE @ self.weight_ED + self.bias_D).transpose(1, 2)


class TrunkHalf(nn.Module):
    """Hidden and tape to logits."""

    def __init__(self, model: AdaTape) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden_BSD: Tensor, tape_BTD: Tensor, tape_length_B1: Tensor) -> Tensor:
        return self.model.trunk(hidden_BSD, tape_BTD, tape_length_B1[:, 0])


class BareTrunkHalf(nn.Module):
    """Hidden to logits: the trunk of bucket 0, which has no tape to take (Triton knows no empty dimension)."""

    def __init__(self, model: AdaTape) -> None:
        super().__init__()
        self.model = model

    def forward(self, hidden_BSD: Tensor) -> Tensor:
        return self.model.trunk(
            hidden_BSD, hidden_BSD[:, :0], hidden_BSD.new_zeros(hidden_BSD.shape[0], dtype=torch.int32)
        )


def read_all_steps(query_BD: Tensor, bank_BMD: Tensor, tape: TapeConfig, key_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pick and weigh for every step, halted or not; the tape is the mixing matrix times the bank.

    Scores are carried from step to step instead of queries: the next query is half the last one and half a mix of
    keys, so its scores are half the last ones and that mix of the keys' own products. Seven small operations a step.
    Entries are ruled out by minus infinity, which halving leaves, so a bank smaller than N * K is not allowed.
    Shapes: query_BD and bank_BMD after normalisation; returns mixing_BNM, picks_BNK, weights_BNK.
    """
    keys_BME = bank_BMD[..., :key_dim]
    keys_BEM = (keys_BME * key_dim**-0.5).transpose(1, 2)
    scores_B1M = query_BD[:, None, :key_dim] @ keys_BEM
    products = _key_products(keys_BME, keys_BEM * 0.5 if tape.complex_query else keys_BEM)
    blank_B1M = torch.zeros_like(scores_B1M)
    out_of_reach_B1K = torch.full_like(scores_B1M[..., : tape.reads_per_step], float("-inf"))
    mixing, picks, weights = [], [], []
    for step in range(tape.capacity):
        best_B1K, picks_B1K = scores_B1M.topk(tape.reads_per_step, dim=2)
        weights_B1K = best_B1K.softmax(dim=2)
        mixing_B1M = blank_B1M.scatter(2, picks_B1K, weights_B1K)
        mixing.append(mixing_B1M)
        picks.append(picks_B1K)
        weights.append(weights_B1K)
        if step + 1 < tape.capacity:
            left_B1M = scores_B1M.scatter(2, picks_B1K, out_of_reach_B1K)
            mixed_B1M = functools.reduce(torch.matmul, products, mixing_B1M)
            if tape.complex_query:
                scores_B1M = left_B1M * 0.5 + mixed_B1M
            else:
                scores_B1M = torch.where(left_B1M.isneginf(), left_B1M, mixed_B1M)
    return torch.cat(mixing, 1), torch.cat(picks, 1), torch.cat(weights, 1)


def _key_products(keys_BME: Tensor, keys_BEM: Tensor) -> list[Tensor]:
    """Return what turns a mix of entries into scores: their Gram matrix, or its factors where those are smaller."""
    bank_size, key_dim = keys_BME.shape[1:]
    return [keys_BME @ keys_BEM] if bank_size <= 2 * key_dim else [keys_BME, keys_BEM]


def wanted_length(weights_BNK: Tensor, tape: TapeConfig) -> Tensor:
    """Return how many steps start below the halting threshold, int32 [B,1]."""
    threshold = tape.halting_threshold
    assert threshold is not None, "This is a bug."
    first_BN = weights_BNK[..., 0]
    before_BN = torch.cat([torch.zeros_like(first_BN[:, :1]), first_BN.cumsum(1)[:, :-1]], dim=1)
    return (before_BN < threshold).sum(1, keepdim=True, dtype=torch.int32)
