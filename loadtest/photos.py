"""Pictures for requests: random crops of the sample photos of installed packages, or the files of a folder.

None of the photos is part of this project; they are looked for without importing the packages that bring them.
"""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from loadtest.usage_errors import UsageError

Pixels = NDArray[np.uint8]

SAMPLES = (
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/astronaut.png"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
"""Photos by package and path."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}
JPEG_QUALITY = 92


def find_samples() -> list[Path]:
    """Return the sample photos that are on this machine."""
    found = []
    for package, path in SAMPLES:
        spec = find_spec(package)
        folders = spec.submodule_search_locations if spec is not None else None
        found += [Path(folder) / path for folder in folders or () if (Path(folder) / path).is_file()]
    return found


def find_photos(folder: Path) -> list[Path]:
    """Return the image files below a folder, in order of name.

    Raises: UsageError if there is no such folder, or no image file in it.
    """
    if not folder.is_dir():
        raise UsageError("photos", folder, "a folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise UsageError("photos", f"none below {folder}", f"files that end in {', '.join(sorted(SUFFIXES))}")
    return found


def random_crops(height: int, width: int, count: int, rng: np.random.Generator) -> Pixels:
    """Return random crops of the sample photos, all different.

    Shapes: (count, height, width, 3).
    Raises: UsageError if no installed package brings photos.
    """
    photos = [read_photo(path) for path in find_samples()]
    if not photos:
        raise UsageError("photos", "none", "scikit-image or scikit-learn installed, or a folder of your own")
    return np.stack([_crop(photos[index % len(photos)], height, width, rng) for index in range(count)])


def read_photo(path: Path) -> Image.Image:
    """Return a file as an RGB picture.

    Raises: UsageError if it holds none.
    """
    try:
        with Image.open(path) as photo:
            return photo.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError("photo", path, "an image that can be decoded") from error


def to_pixels(photo: Image.Image, height: int, width: int) -> Pixels:
    """Squash a picture to a size. Shapes: (height, width, 3)."""
    return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC), np.uint8)


def to_jpeg(pixels_HW3: Pixels) -> bytes:
    """Return pixels as a JPEG file, as cameras and browsers send them."""
    stream = BytesIO()
    Image.fromarray(pixels_HW3).save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _crop(photo: Image.Image, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Cut a square of random size and place, mirrored or not, to the size asked for."""
    side = int(rng.uniform(0.3, 1.0) * min(photo.size))
    left, top = (int(rng.integers(0, extent - side + 1)) for extent in photo.size)
    small = photo.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    pixels = np.asarray(small, np.uint8)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels
