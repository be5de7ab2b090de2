"""Images to verify on: noise, scenes that look like photographs, and only such whose reading is no toss-up.

Shape legend: B batch, M bank, K reads a step, N tape capacity, D dim, E key features.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.config import TapeConfig
from adatape.model import AdaTape
from adatape.reader import TapeRead, TapeReader
from adatape.transformer import scale_pixels
from export.errors import ExportError

Pixels = NDArray[np.uint8]
Maker = Callable[[np.random.Generator, int, int], Pixels]

MIN_MARGIN = 1e-3
"""Difference of scores, or of accumulated weight to the threshold, that no rounding error bridges."""
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


def decided_images(model: AdaTape, maker: Maker, count: int, *, seed: int) -> Pixels:
    """Return images on which rounding can change neither a pick nor the halting step.

    Two entries whose scores are equal but for rounding may be picked in either order by equally right
    implementations; on the images returned here picks and lengths can be asked to be exact.
    Raises: ExportError if the model decides too few.
    """
    rng, kept = np.random.default_rng(seed), []
    for _ in range(MAX_ROUNDS):
        candidates = maker(rng, count, model.config.image_size)
        kept.extend(candidates[(margins(model, candidates) > MIN_MARGIN).numpy()])
        if len(kept) >= count:
            return np.stack(kept[:count])
    got = f"{len(kept)} of {MAX_ROUNDS * count} {maker.__name__} images with a margin above {MIN_MARGIN}"
    raise ExportError.of("reading", got, f"{count} whose picks are no toss-up")


@torch.no_grad()
def margins(model: AdaTape, image_BHWC: Pixels) -> Tensor:
    """Return for each image by how much its closest decision was made."""
    read = own_reading(model, image_BHWC, None)
    reader, tape = model.readers[0], model.config.tape
    assert tape is not None, "This is a bug."
    assert isinstance(reader, TapeReader), "This is a bug."
    return _replayed_margins(read, tape, reader.key_dim)


def own_reading(model: AdaTape, image_BHWC: Pixels, max_tape_B: Tensor | None) -> TapeRead:
    """Return what the model itself reads."""
    pixels_BHWC = pixels_of(model, image_BHWC)
    return model.read(model.embed(pixels_BHWC), None, model.build_bank(pixels_BHWC), 0, max_tape_B)


def pixels_of(model: AdaTape, image_BHWC: Pixels) -> Tensor:
    """Return scaled pixels in the precision of the model's weights; the scaling itself is always in fp32."""
    return scale_pixels(torch.from_numpy(image_BHWC)).to(model.head.weight.dtype)


def _replayed_margins(read: TapeRead, tape: TapeConfig, key_dim: int) -> Tensor:
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
        gap_B = (best_BK[:, :-1] - best_BK[:, 1:]).nan_to_num(nan=torch.inf).amin(1)
        before_B = before_B + read.weights_BNK[:, step, 0].double()
        closest_B = torch.minimum(gap_B, (before_B - threshold).abs())
        margin_B = torch.where(is_reading_B, torch.minimum(margin_B, closest_B), margin_B)
        picks_BK, weights_BK = read.picks_BNK[:, step].clamp(min=0), read.weights_BNK[:, step].double()
        picked_BKE = keys_BME.gather(1, picks_BK[..., None].expand(-1, -1, key_dim))
        new_key_BE = (weights_BK[..., None] * picked_BKE).sum(1)
        query_BE = (query_BE + new_key_BE) / 2 if tape.complex_query else new_key_BE
        is_used_BM = is_used_BM.scatter(1, picks_BK, value=True)
    return margin_B
