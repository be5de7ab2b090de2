"""Data sources: where images and labels come from, split the same way every time.

Terms: a *source* is `digits`, `parity`, `parity-variable`, an `.npz` file, an image folder, or the official CIFAR-10
archive.
The validation split is cut from the training images by a fixed seed; the test split is for reporting only.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adatape.cifar import is_cifar10, load_cifar10
from adatape.folder import load_folder

SPLIT_SEED = 0
SOURCES = "digits, parity, parity-variable, an .npz file, an image folder or a CIFAR-10 archive"
PARITY_SIZES = {"train": (256_000, 0), "validation": (6_400, 42), "test": (6_400, 43)}
"""Strings in each split of the generated parity task, and the seed that draws them."""
PAD = 3
"""The stored symbol that fills up a short string of `parity-variable`; models see it as a zero vector."""


@dataclass(frozen=True)
class Split:
    """Images uint8 [N,H,W,3], or strings of symbols uint8 [N,L] in 0..3, with labels int64 [N]."""

    x: NDArray[np.uint8]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shape, inputs and labels."""
        head = str((self.x.shape, self.y.shape)).encode()
        return hashlib.sha256(head + np.ascontiguousarray(self.x).tobytes() + self.y.tobytes()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """One source, split; `test` is None where the source has none."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None

    @property
    def digest(self) -> str:
        """SHA-256 over the digests of all splits."""
        splits = [self.train, self.validation, *([self.test] if self.test else [])]
        return hashlib.sha256("".join(split.digest for split in splits).encode()).hexdigest()

    def split(self, name: str) -> Split:
        """Return a split by name.

        Raises: ValueError if the source has no such split.
        """
        split = {"train": self.train, "validation": self.validation, "test": self.test}.get(name)
        if split is None:
            raise ValueError(
                f"split of {self.name}; got {name!r}; expected train, validation{' or test' if self.test else ''}"
            )
        return split


@dataclass(frozen=True)
class RawData:
    """What a loader found; `validation` is None where it must be cut from `train`, from each class if so said."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split | None = None
    validation: Split | None = None
    is_cut_by_class: bool = False


def open_source(source: str, *, image_size: int, seq_len: int = 0, validation_share: float = 0.1) -> Dataset:
    """Load a source, check it, and split it; `seq_len` is the length of parity strings.

    Raises: ValueError naming the source and what was expected of it.
    """
    if source.startswith("parity") != (seq_len > 0) or (seq_len and source not in ("parity", "parity-variable")):
        strings = f"parity or parity-variable, for strings of {seq_len} symbols"
        wanted = strings if seq_len else SOURCES.replace("parity, parity-variable, ", "")
        raise ValueError(f"data source; got {source!r}; expected {wanted}")
    if seq_len:
        least = seq_len if source == "parity" else 1
        splits = (parity_strings(count, seed, least, seq_len) for count, seed in PARITY_SIZES.values())
        return Dataset(source, ("even", "odd"), *splits)
    raw = _loader(source)(source, image_size)
    _check_shapes(raw, image_size)
    if raw.validation is not None:
        return Dataset(raw.name, raw.class_names, raw.train, raw.validation, raw.test)
    validation, train = _cut_by_class(raw, validation_share) if raw.is_cut_by_class else _cut(raw, validation_share)
    return Dataset(raw.name, raw.class_names, _take(raw.train, train), _take(raw.train, validation), raw.test)


def _cut(raw: RawData, share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which training images are for validation, and which remain."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(raw.train))
    cut = max(1, round(len(order) * share))
    return np.sort(order[:cut]), np.sort(order[cut:])


def _cut_by_class(raw: RawData, share: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Do so within each class: where images are few, chance could leave a class without any.

    Raises: ValueError naming a class that has too few.
    """
    random, chosen = np.random.default_rng(SPLIT_SEED), []
    for label, name in enumerate(raw.class_names):
        members = np.flatnonzero(raw.train.y == label)
        if len(members) < 2:
            expected = "at least 2, one for training and one for validation, or a val/ folder"
            raise ValueError(f"images of class {name}; got {len(members)}; expected {expected}")
        chosen.append(random.permutation(members)[: max(1, round(len(members) * share))])
    validation = np.sort(np.concatenate(chosen))
    return validation, np.setdiff1d(np.arange(len(raw.train)), validation)


def _loader(source: str) -> Callable[[str, int], RawData]:
    path = Path(source)
    if source == "digits":
        return _load_digits
    if not path.exists():
        raise ValueError(f"data source; got {source!r}, which does not exist; expected {SOURCES}")
    if path.suffix == ".npz":
        return _load_npz
    if is_cifar10(path):
        return lambda name, _: RawData(Path(name).name, *_cifar_splits(Path(name)))
    if path.is_dir():
        return _load_image_folder
    raise ValueError(f"data source; got {source!r}; expected {SOURCES}")


def _cifar_splits(path: Path) -> tuple[tuple[str, ...], Split, Split]:
    names, train, test = load_cifar10(path)
    return names, Split(*train), Split(*test)


def _load_image_folder(source: str, image_size: int) -> RawData:
    names, splits = load_folder(Path(source), image_size)
    made = {name: Split(*arrays) for name, arrays in splits.items()}
    name = Path(source).resolve().name
    return RawData(name, names, made["train"], made.get("test"), made.get("val"), is_cut_by_class=True)


def _load_digits(_: str, image_size: int) -> RawData:
    from sklearn.datasets import load_digits  # a training dependency, not needed to serve or to import this module

    digits = load_digits()
    if image_size % 8:
        raise ValueError(f"digits; got image_size={image_size}; expected a multiple of 8")
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    x = np.repeat(np.kron(grey, np.ones((1, image_size // 8, image_size // 8), np.uint8))[..., None], 3, axis=3)
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    test, train = order[:360], order[360:]
    names = tuple(str(digit) for digit in range(10))
    return RawData("digits", names, Split(x[train], y[train]), Split(x[test], y[test]))


def parity_strings(count: int, seed: int, min_len: int, max_len: int, *, width: int | None = None) -> Split:
    """Draw strings over {-1, 0, 1}, stored plus one; the label is the parity of the number of ones.

    Lengths are uniform from `min_len` to `max_len`; `PAD` fills up to `width`, by default the latter.
    """
    generator, width = np.random.default_rng(seed), width or max_len
    x = generator.integers(0, 3, (count, width), np.uint8)
    if min_len < width:
        length_N1 = generator.integers(min_len, max_len + 1, (count, 1))
        x[np.arange(width) >= length_N1] = PAD
    return Split(x, (x == 2).sum(axis=1) % 2)


def _load_npz(source: str, _: int) -> RawData:
    with np.load(source, allow_pickle=False) as arrays:
        missing = [key for key in ("x_train", "y_train") if key not in arrays]
        if missing:
            optional = "optionally x_test, y_test, class_names"
            raise ValueError(f"{source}; got arrays {sorted(arrays)}; expected x_train, y_train and {optional}")
        train = Split(arrays["x_train"], arrays["y_train"].astype(np.int64))
        test = Split(arrays["x_test"], arrays["y_test"].astype(np.int64)) if "x_test" in arrays else None
        count = int(train.y.max()) + 1
        names = (
            tuple(str(name) for name in arrays["class_names"])
            if "class_names" in arrays
            else tuple(map(str, range(count)))
        )
    return RawData(Path(source).name, names, train, test)


def _check_shapes(raw: RawData, image_size: int) -> None:
    for name, split in (("train", raw.train), ("validation", raw.validation), ("test", raw.test)):
        if split is None:
            continue
        expected = (image_size, image_size, 3)
        if (
            split.x.dtype != np.uint8
            or split.x.shape[1:] != expected
            or len(split.x) != len(split.y)
            or len(split) == 0
        ):
            got = f"{split.x.dtype} {split.x.shape} with {len(split.y)} labels"
            shape = f"(N, {image_size}, {image_size}, 3)"
            raise ValueError(f"{raw.name} {name} images; got {got}; expected uint8 {shape} with N labels, N > 0")
        if split.y.min() < 0 or split.y.max() >= len(raw.class_names):
            got, last = f"{split.y.min()} to {split.y.max()}", len(raw.class_names) - 1
            raise ValueError(f"{raw.name} {name} labels; got {got}; expected 0 to {last}")


def _take(split: Split, index: NDArray[np.intp]) -> Split:
    return Split(split.x[index], split.y[index])
