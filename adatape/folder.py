"""An image folder: `train/<class>/*` and optionally `val/` and `test/` alike, or `<class>/*` alone."""

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})
SPLITS = ("train", "val", "test")
PATIENCE_S = 2.0
"""How long reading may take before it shows its progress."""
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def load_folder(root: Path, image_size: int) -> tuple[tuple[str, ...], dict[str, Arrays]]:
    """Return the class names and (x, y) for each split there is.

    Images are turned upright, squashed to a square and made RGB, as the server does. Hidden files are passed over.
    Raises: ValueError naming an unreadable file, an empty class or a missing split.
    """
    folders = {name: root / name for name in SPLITS if (root / name).is_dir()} or {"train": root}
    if "train" not in folders:
        raise ValueError(f"image folder; got {root} with {', '.join(folders)} but no train; expected train/<class>/*")
    names = _classes(folders["train"])
    if len(names) < 2:
        raise ValueError(f"classes in {folders['train']}; got {len(names)}; expected at least 2 folders of images")
    return names, {name: _load_split(folder, names, image_size) for name, folder in folders.items()}


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != "."))


def _load_split(folder: Path, names: tuple[str, ...], image_size: int) -> Arrays:
    extra = [name for name in _classes(folder) if name not in names]
    if extra:
        raise ValueError(f"classes in {folder}; got {extra}; expected only those of train/: {list(names)}")
    files = [(file, label) for label, name in enumerate(names) for file in _images(folder / name)]
    if not files:
        raise ValueError(f"images in {folder}; got none; expected some in folders named {', '.join(names)}")
    shown = tqdm(files, desc=f"reading {folder.name}", unit="image", delay=PATIENCE_S, disable=None, leave=False)
    x = np.stack([_load_image(file, image_size) for file, _ in shown])
    return x, np.array([label for _, label in files], np.int64)


def _images(folder: Path) -> list[Path]:
    """Return a class's images. A split may lack a class, but a folder without images is a mistake."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name[0] != ".")
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if folder.is_dir() and not images:
        others = Counter(file.suffix.lower() or file.name for file in files)
        got = ", ".join(f"{count} of {suffix}" for suffix, count in others.most_common(5)) or "no files"
        raise ValueError(f"images in {folder}; got {got}; expected {', '.join(sorted(SUFFIXES))}")
    return images


def _load_image(file: Path, image_size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"image file; got {file}: {error}; expected a readable image") from error
    if upright.size != (image_size, image_size):
        upright = upright.resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(upright)
