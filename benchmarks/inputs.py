"""Real pictures, so that tape lengths are those of real pictures, and the requests that carry them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.infer_requests import infer_request
from loadtest.lean_http import render
from loadtest.photos import random_crops
from loadtest.usage_errors import UsageError
from server.models.manifest import Manifest
from server.records import Pixels

SEED = 20


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures at a family's input size, all different.

    Shapes: pixels_BHWC uint8. Labels are there when the data set has them.
    """

    pixels_BHWC: Pixels
    labels_B: NDArray[np.int64] | None
    source: str


def load_pictures(manifest: Manifest, count: int, data: Path | None) -> Pictures:
    """Take test images of an .npz with `x_test` and `y_test`, or random crops of photos that packages bring.

    Raises: SystemExit if there are neither, or if the images do not fit the family.
    """
    size = manifest.preprocessing
    rng = np.random.default_rng(SEED)
    if data is None:
        try:
            crops = random_crops(size.height, size.width, count, rng)
        except UsageError as error:
            raise SystemExit(f"{error}: --data FILE") from error
        return Pictures(crops, None, "random crops of sample photos")
    with np.load(data) as archive:
        pixels, labels = archive["x_test"], archive["y_test"].astype(np.int64).ravel()
    if pixels.shape[1:] != (size.height, size.width, 3):
        raise SystemExit(f"data; got images {pixels.shape[1:]}; expected {(size.height, size.width, 3)}")
    chosen = rng.permutation(len(pixels))[:count]
    return Pictures(np.ascontiguousarray(pixels[chosen]), labels[chosen], f"test images of {data.name}")


def fake_pictures(manifest: Manifest, count: int) -> Pictures:
    """Return pictures of one grey each, for the fake backend: its tape length follows the mean."""
    size = manifest.preprocessing
    greys = np.random.default_rng(SEED).integers(0, 256, count).astype(np.uint8)
    pixels = np.broadcast_to(greys[:, None, None, None], (count, size.height, size.width, 3))
    return Pictures(np.ascontiguousarray(pixels), None, "plain greys")


def binary_request(model: str, pixels_BHWC: Pixels, parameters: dict[str, Any] | None = None) -> bytes:
    """Return an infer call of the Open Inference Protocol with binary pixels and binary logits."""
    return infer_request(model, pixels_BHWC, parameters).render()


def jpeg_request(model: str, jpeg: bytes) -> bytes:
    """Return a classify call with a JPEG as its body."""
    return render(f"/v1/classify?model={model}", jpeg, {"Content-Type": "image/jpeg"})


def binary_requests(
    model: str, pixels_BHWC: Pixels, batch: int, parameters: dict[str, Any] | None = None
) -> list[bytes]:
    """Return the pictures as infer calls of `batch` samples each."""
    starts = range(0, len(pixels_BHWC) - batch + 1, batch)
    return [binary_request(model, pixels_BHWC[start : start + batch], parameters) for start in starts]
