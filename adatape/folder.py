"""An image folder: `train/<class>/*`, `val/<class>/*` and optionally `test/<class>/*`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load_folder(root: Path, image_size: int) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Return the class names and (x, y) for each split there is.

    Images are turned upright, squashed to a square and made RGB, as the server does.
    Raises: ValueError naming an unreadable file, an empty class or a missing split.
    """
    if not (root / "train").is_dir():
        raise ValueError(
            f"image folder; got {root} without train/; expected train/<class>/* and optionally val/, test/"
        )
    names = tuple(sorted(child.name for child in (root / "train").iterdir() if child.is_dir()))
    if len(names) < 2:
        raise ValueError(f"classes in {root / 'train'}; got {len(names)}; expected at least 2 folders")
    found = [name for name in ("train", "val", "test") if (root / name).is_dir()]
    return names, {name: _load_split(root / name, names, image_size) for name in found}


def _load_split(folder: Path, names: tuple[str, ...], image_size: int) -> Arrays:
    extra = sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name not in names)
    if extra:
        raise ValueError(f"classes in {folder}; got {extra}; expected only those of train/: {list(names)}")
    files = [(file, label) for label, name in enumerate(names) for file in _images(folder / name)]
    if not files:
        raise ValueError(f"images in {folder}; got none; expected {', '.join(sorted(SUFFIXES))} files in class folders")
    x = np.stack([_load_image(file, image_size) for file, _ in files])
    return x, np.array([label for _, label in files], np.int64)


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _load_image(file: Path, image_size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"image file; got {file}: {error}; expected a readable image") from error
    if upright.size != (image_size, image_size):
        upright = upright.resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(upright)
