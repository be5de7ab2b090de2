"""Inputs to verify on: noise, scenes that look like photographs, strings; only such whose reading is no toss-up.

Shape legend: B batch, L symbols, M bank, K reads a step, N tape capacity, D dim, E key features.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.config import TapeConfig
from adatape.model import AdaTape
from adatape.reader import TapeRead, TapeReader
from adatape.transformer import scale_pixels, spread_symbols
from export.errors import ExportError

Pixels = NDArray[np.uint8]
Inputs = Pixels | NDArray[np.int8]
Maker = Callable[[np.random.Generator, int, int], Inputs]

MIN_MARGIN = 1e-3
"""Difference of scores, or of accumulated weight to the threshold, that no rounding error bridges."""
TIE = 1e-5
"""Difference of scores below which the entries of a bank of symbols are the same symbol."""
MAX_ROUNDS = 64


def noise(rng: np.random.Generator, count: int, side: int) -> Pixels:
    """Return independent uniform pixels."""
    return rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def scenes(rng: np.random.Generator, count: int, side: int) -> Pixels:
    """Return soft gradients with a few flat discs and a little noise: large smooth areas, sharp edges."""
    row, col = np.mgrid[0 : 1 : 1j * side, 0 : 1 : 1j * side]
    image_BHWC = np.empty((count, side, side, 3))
    for image_HWC in image_BHWC:
        slopes, colours = rng.normal(0, 120, (2, 3)), rng.uniform(40, 215, 3)
        image_HWC[:] = colours + row[..., None] * slopes[0] + col[..., None] * slopes[1]
        for _ in range(rng.integers(2, 6)):
            centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.35)
            is_inside = (row - centre[0]) ** 2 + (col - centre[1]) ** 2 < radius**2
            image_HWC[is_inside] = rng.uniform(0, 255, 3)
    image_BHWC += rng.normal(0, 4, image_BHWC.shape)
    return image_BHWC.clip(0, 255).astype(np.uint8)


def strings(rng: np.random.Generator, count: int, length: int) -> NDArray[np.int8]:
    """Return strings of symbols -1, 0 and 1."""
    return rng.integers(-1, 2, (count, length), dtype=np.int8)


def makers_of(model: AdaTape) -> tuple[Maker, ...]:
    """Return what makes inputs for a model."""
    return (noise, scenes) if model.config.input == "image" else (strings,)


def make(model: AdaTape, maker: Maker, rng: np.random.Generator, count: int) -> Inputs:
    """Return so many inputs of a model's size."""
    config = model.config
    return maker(rng, count, config.image_size if config.input == "image" else config.seq_len)


def decided_inputs(model: AdaTape, maker: Maker, count: int, *, seed: int) -> Inputs:
    """Return inputs on which rounding can change neither a pick nor the halting step.

    Two entries whose scores are equal but for rounding may be picked in either order by equally right
    implementations; on the inputs returned here picks and lengths can be asked to be exact.
    Raises: ExportError if the model decides too few.
    """
    rng, kept = np.random.default_rng(seed), []
    for _ in range(MAX_ROUNDS):
        candidates = make(model, maker, rng, count)
        kept.extend(candidates[(margins(model, candidates) > MIN_MARGIN).numpy()])
        if len(kept) >= count:
            return np.stack(kept[:count])
    got = f"{len(kept)} of {MAX_ROUNDS * count} {maker.__name__} inputs with a margin above {MIN_MARGIN}"
    raise ExportError.of("reading", got, f"{count} whose picks are no toss-up")


@torch.no_grad()
def margins(model: AdaTape, raw_BX: Inputs) -> Tensor:
    """Return for each input by how much its closest decision was made.

    Equal symbols are equal entries, so which of them is picked is no decision.
    """
    read = own_reading(model, raw_BX, None)
    reader, tape = model.readers[0], model.config.tape
    assert tape is not None, "This is a bug."
    assert isinstance(reader, TapeReader), "This is a bug."
    return _replayed_margins(read, tape, reader.key_dim, tie=TIE if model.config.input == "parity" else 0.0)


def own_reading(model: AdaTape, raw_BX: Inputs, max_tape_B: Tensor | None) -> TapeRead:
    """Return what the model itself reads."""
    inputs_BX = inputs_of(model, raw_BX)
    return model.read(model.embed(inputs_BX), None, model.build_bank(inputs_BX), 0, max_tape_B)


def inputs_of(model: AdaTape, raw_BX: Inputs) -> Tensor:
    """Return what the model takes, in the precision of its weights; pixels are always scaled in fp32."""
    prepare = scale_pixels if model.config.input == "image" else spread_symbols
    return prepare(torch.from_numpy(raw_BX)).to(model.head.weight.dtype)


def _replayed_margins(read: TapeRead, tape: TapeConfig, key_dim: int, *, tie: float) -> Tensor:
    threshold = tape.halting_threshold
    assert threshold is not None, "This is a bug."
    keys_BME, query_BE = read.bank_BMD[..., :key_dim].double(), read.query_BD[:, :key_dim].double()
    margin_B = torch.full_like(query_BE[:, 0], torch.inf)
    is_used_BM = torch.zeros_like(keys_BME[..., 0], dtype=torch.bool)
    before_B = torch.zeros_like(margin_B)
    for step in range(tape.capacity):
        is_reading_B = step < read.wanted_B
        scores_BM = torch.einsum("be,bme->bm", query_BE, keys_BME).masked_fill(is_used_BM, -torch.inf)
        best_BK = scores_BM.topk(min(tape.reads_per_step + 1, scores_BM.shape[1])).values
        gap_BK = (best_BK[:, :-1] - best_BK[:, 1:]).nan_to_num(nan=torch.inf)
        gap_B = gap_BK.masked_fill(gap_BK < tie, torch.inf).amin(1)
        before_B = before_B + read.weights_BNK[:, step, 0].double()
        is_last = step == tape.capacity - 1  # whether it halts there decides nothing
        closest_B = gap_B if is_last else torch.minimum(gap_B, (before_B - threshold).abs())
        margin_B = torch.where(is_reading_B, torch.minimum(margin_B, closest_B), margin_B)
        picks_BK, weights_BK = read.picks_BNK[:, step].clamp(min=0), read.weights_BNK[:, step].double()
        picked_BKE = keys_BME.gather(1, picks_BK[..., None].expand(-1, -1, key_dim))
        new_key_BE = (weights_BK[..., None] * picked_BKE).sum(1)
        query_BE = (query_BE + new_key_BE) / 2 if tape.complex_query else new_key_BE
        is_used_BM = is_used_BM.scatter(1, picks_BK, value=True)
    return margin_B
