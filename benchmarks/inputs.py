"""Real pictures to ask about, so that tape lengths are those of real pictures, and the requests that carry them."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loadtest.wire import render
from server.manifest import Manifest
from server.records import Pixels

SAMPLES = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/astronaut.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
"""Photos by package and path, looked for without importing the package."""
SEED = 20
JPEG_QUALITY = 92
OCTETS = {"Content-Type": "application/octet-stream"}


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
        return Pictures(_crops(size.height, size.width, count, rng), None, "random crops of sample photos")
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


def _crops(height: int, width: int, count: int, rng: np.random.Generator) -> Pixels:
    photos = [Image.open(path).convert("RGB") for path in find_samples()]
    if not photos:
        raise SystemExit("photos; got none; expected scikit-image or scikit-learn installed, or --data FILE")
    return np.stack([_crop(photos[index % len(photos)], height, width, rng) for index in range(count)])


def find_samples() -> list[Path]:
    """Return the sample photos that installed packages bring."""
    paths = []
    for package, place in SAMPLES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            paths.append(Path(spec.origin).parent / place)
    return [path for path in paths if path.exists()]


def _crop(photo: Image.Image, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Cut a square of random size and place, mirrored or not, at the family's size."""
    side = int(rng.uniform(0.3, 1.0) * min(photo.size))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
    small = photo.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    pixels = np.asarray(small, np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def to_jpeg(pixels_HW3: Pixels) -> bytes:
    """Return pixels as a JPEG file, as cameras and browsers send them."""
    stream = BytesIO()
    Image.fromarray(pixels_HW3).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def binary_request(model: str, pixels_BHWC: Pixels, parameters: dict[str, Any] | None = None) -> bytes:
    """Return an infer call of the Open Inference Protocol with binary pixels and binary logits."""
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(pixels_BHWC.shape),
        "parameters": {"binary_data_size": pixels_BHWC.nbytes},
    }
    document: dict[str, Any] = {
        "inputs": [image],
        "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
    }
    if parameters:
        document["parameters"] = parameters
    header = json.dumps(document).encode()
    headers = {**OCTETS, "Inference-Header-Content-Length": str(len(header))}
    return render(f"/v2/models/{model}/infer", header + pixels_BHWC.tobytes(), headers)


def jpeg_request(model: str, jpeg: bytes) -> bytes:
    """Return a classify call with a JPEG as its body."""
    return render(f"/v1/classify?model={model}", jpeg, {"Content-Type": "image/jpeg"})


def binary_requests(
    model: str, pixels_BHWC: Pixels, batch: int, parameters: dict[str, Any] | None = None
) -> list[bytes]:
    """Return the pictures as infer calls of `batch` samples each."""
    starts = range(0, len(pixels_BHWC) - batch + 1, batch)
    return [binary_request(model, pixels_BHWC[start : start + batch], parameters) for start in starts]
