"""Adaptive tape reading (ATR): how a sample chooses its tape.

Shape legend: B batch, M bank, K reads a step, N tape capacity, D dim, E key features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adatape.config import TapeConfig
from adatape.layers import GluMlp, layer_norm

USED = 1e9
"""Taken off the score of an entry that was read; the official value, kept for its tie behaviour."""


@dataclass(slots=True)
class TapeRead:
    """One reading.

    Shapes: tape_BND; rows past length_B are zero (in compat mode: what the tape MLP makes of zero).
    raw_BND is the tape before that MLP. picks_BNK are bank entries, -1 where a step did not run,
    and weights_BNK their weights. query_BD and bank_BMD are after normalisation.
    """

    tape_BND: Tensor
    raw_BND: Tensor
    length_B: Tensor
    wanted_B: Tensor
    ponder_B: Tensor
    picks_BNK: Tensor
    weights_BNK: Tensor
    query_BD: Tensor
    bank_BMD: Tensor


class TapeReader(nn.Module):
    """Shared normalisation, reading, and the optional tape MLP of one tape layer.

    Source: Xue et al. 2023, section 3; scenic projects/adatape.
    Differs: weights are gathered per sample; rows past a sample's length are zero.
    """

    def __init__(self, tape: TapeConfig, dim: int, *, dropout: float = 0.0, compat: bool = False) -> None:
        super().__init__()
        self.config = tape
        self.key_dim = dim // tape.key_split
        self.norm = layer_norm(dim)
        self.mlp = GluMlp(dim, tape.tape_mlp_dim, dropout) if tape.tape_mlp_dim else None
        self.compat = compat
        self.choose, self.merge = choose_best, merge_weighted  # ablations put others here

    def forward(self, query_BD: Tensor, bank_BMD: Tensor, max_tape: Tensor | int | None = None) -> TapeRead:
        """Read a tape for each sample, at most `max_tape` tokens long.

        An int cap also bounds the steps that run, so `wanted_B` is then at most that cap; a tensor
        of caps [B] truncates what halting alone wanted.
        """
        with torch.autocast(query_BD.device.type, enabled=False):
            query_BD, bank_BMD = self._normalised(query_BD.float(), bank_BMD.float())
            steps = min(self.config.capacity, max_tape) if isinstance(max_tape, int) else self.config.capacity
            read = self._read(query_BD, bank_BMD, steps)
        if isinstance(max_tape, Tensor):
            read.length_B = torch.minimum(read.wanted_B, max_tape.to(read.wanted_B.dtype))
            read.raw_BND = read.raw_BND * self._slots(read)[..., None]
        read.tape_BND = self._digested(read)
        return read

    def _normalised(self, query_BD: Tensor, bank_BMD: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.config.query_noise > 0 and self.config.halting_threshold is not None:
            query_BD = query_BD + self.config.query_noise * torch.randn_like(query_BD)
        return self.norm(query_BD), self.norm(bank_BMD)

    def _read(self, query_BD: Tensor, bank_BMD: Tensor, steps: int) -> TapeRead:
        if self.config.halting_threshold is None:
            return _read_fixed(query_BD, bank_BMD, self.key_dim, steps)
        used_BM = torch.zeros_like(bank_BMD[..., 0])
        if self.training and self.config.bernoulli_p > 0:
            used_BM = torch.bernoulli(used_BM + self.config.bernoulli_p)
        return self._read_adaptive(query_BD, bank_BMD, used_BM, steps)

    def _read_adaptive(self, query_BD: Tensor, bank_BMD: Tensor, used_BM: Tensor, steps: int) -> TapeRead:
        config, key_dim = self.config, self.key_dim
        threshold = config.halting_threshold
        assert threshold is not None, "This is a bug."
        keys_BME, q_BE = bank_BMD[..., :key_dim], query_BD[:, :key_dim]
        weight_B = query_BD.new_zeros(len(query_BD))  # accumulated
        ponder_B, wanted_B = torch.zeros_like(weight_B), torch.zeros_like(weight_B, dtype=torch.long)
        picks, weights, new_keys = [], [], []
        for _ in range(steps):
            is_reading_B = weight_B < threshold
            scores_BM = torch.einsum("be,bme->bm", q_BE, keys_BME)
            picks_BK = self.choose(scores_BM.detach(), used_BM, config.reads_per_step)
            w_BK = (scores_BM.gather(1, picks_BK) * key_dim**-0.5).softmax(dim=1)
            ponder_B = ponder_B + is_reading_B * _uncertainty(w_BK, config)
            wanted_B = wanted_B + is_reading_B
            # Assigning the threshold, not adding the rest, keeps rounding from ever asking for one more step.
            weight_B = (weight_B + is_reading_B * w_BK[:, 0].detach()).clamp(max=threshold)
            used_BM = used_BM.scatter_add(1, picks_BK, torch.ones_like(w_BK).detach())
            new_key_BE = self.merge(w_BK, gather_entries(keys_BME, picks_BK))
            q_BE = (q_BE + new_key_BE) / 2 if config.complex_query else new_key_BE
            picks.append(torch.where(is_reading_B[:, None], picks_BK, -1))
            weights.append(w_BK * is_reading_B[:, None])
            new_keys.append(new_key_BE * is_reading_B[:, None])
        empty_B0K = (len(query_BD), 0, config.reads_per_step)
        picks_BNK = torch.stack(picks, 1) if picks else wanted_B.new_empty(empty_B0K)
        weights_BNK = torch.stack(weights, 1) if weights else query_BD.new_empty(empty_B0K)
        keys_BNE = torch.stack(new_keys, 1) if new_keys else query_BD.new_empty((len(query_BD), 0, key_dim))
        raw_BND = torch.cat([keys_BNE, self._merged(bank_BMD[..., key_dim:], picks_BNK, weights_BNK)], -1)
        return TapeRead(raw_BND, raw_BND, wanted_B, wanted_B, ponder_B, picks_BNK, weights_BNK, query_BD, bank_BMD)

    def _merged(self, bank_BMR: Tensor, picks_BNK: Tensor, weights_BNK: Tensor) -> Tensor:
        """Return what is left of the tokens of all steps beside their keys, [B,N,R]; zero for steps that did not run.

        All at once, for the gradient of a gather is as large as the bank, and this takes one instead of one a step.
        """
        batch, steps, k = picks_BNK.shape
        entries_BSR = gather_entries(bank_BMR, picks_BNK.clamp(min=0).flatten(1))
        tokens_TR = self.merge(weights_BNK.flatten(0, 1), entries_BSR.reshape(batch * steps, k, -1))
        has_run_BN1 = picks_BNK[..., :1] >= 0
        return tokens_TR.reshape(batch, steps, -1) * has_run_BN1

    def _slots(self, read: TapeRead) -> Tensor:
        """[B,N], 1 where a slot holds a token."""
        slots_N = torch.arange(read.raw_BND.shape[1], device=read.raw_BND.device)
        return (slots_N < read.length_B[:, None]).to(read.raw_BND.dtype)

    def _digested(self, read: TapeRead) -> Tensor:
        if self.mlp is None:
            return read.raw_BND
        tape_BND = self.mlp(read.raw_BND)
        return tape_BND if self.compat else tape_BND * self._slots(read)[..., None]


def pick_top(scores_BM: Tensor, k: int) -> Tensor:
    """Return the k best entries of each row, ties to the lowest index."""
    if torch.compiler.is_exporting():  # ONNX TopK breaks ties as we want; torch.topk does not promise it
        return scores_BM.topk(k, dim=1).indices
    return scores_BM.sort(dim=1, descending=True, stable=True).indices[:, :k]


def choose_best(scores_BM: Tensor, used_BM: Tensor, k: int) -> Tensor:
    """Return the k best entries of each row that were not read before."""
    return pick_top(scores_BM - USED * used_BM, k)


def merge_weighted(weights_BK: Tensor, entries_BKD: Tensor) -> Tensor:
    """Return the one tape token that a step's entries make, [B,D]."""
    return torch.einsum("bk,bkd->bd", weights_BK, entries_BKD)


def gather_entries(bank_BMD: Tensor, picks_BK: Tensor) -> Tensor:
    """Return each sample's own picked entries, [B,K,D]."""
    return bank_BMD.gather(1, picks_BK[..., None].expand(-1, -1, bank_BMD.shape[-1]))


def _read_fixed(query_BD: Tensor, bank_BMD: Tensor, key_dim: int, steps: int) -> TapeRead:
    scores_BM = torch.einsum("be,bme->bm", query_BD[:, :key_dim], bank_BMD[..., :key_dim])
    picks_BN = pick_top(scores_BM, steps)
    length_B = torch.full((len(query_BD),), steps, device=query_BD.device)
    raw_BND = gather_entries(bank_BMD, picks_BN)
    picks_BNK = picks_BN[..., None]
    return TapeRead(
        raw_BND,
        raw_BND,
        length_B,
        length_B,
        scores_BM.new_zeros(len(query_BD)),
        picks_BNK,
        torch.ones_like(picks_BNK, dtype=torch.float32),
        query_BD,
        bank_BMD,
    )


def _uncertainty(w_BK: Tensor, config: TapeConfig) -> Tensor:
    return 1 - (w_BK.square().sum(1) if config.ponder == "entropy" else w_BK.amax(1))
