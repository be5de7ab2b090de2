"""The official CIFAR-10 archives, read without trusting them: binary, or Python through a restricted unpickler."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def is_cifar10(path: Path) -> bool:
    """Say whether this is the archive, or the folder it unpacks to."""
    if path.is_dir():
        return any(path.glob("data_batch_1*"))
    return path.name.startswith("cifar-10-") and path.name.endswith((".tar.gz", ".tgz", ".tar"))


def load_cifar10(path: Path) -> tuple[tuple[str, ...], Arrays, Arrays]:
    """Return class names, (x, y) of the training batches in order, and (x, y) of the test batch.

    Raises: ValueError if a batch is missing or malformed.
    """
    batches = {
        name.removesuffix(".bin"): _parse(name, blob)
        for name, blob in _files(path)
        if "_batch" in name and not name.endswith(".html")
    }
    wanted = [f"data_batch_{number}" for number in range(1, 6)]
    missing = [name for name in (*wanted, "test_batch") if name not in batches]
    if missing:
        raise ValueError(f"{path}; got no {', '.join(missing)}; expected the five training batches and the test batch")
    x = np.concatenate([batches[name][0] for name in wanted])
    y = np.concatenate([batches[name][1] for name in wanted])
    return NAMES, (x, y), batches["test_batch"]


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(path.iterdir()) if file.is_file())
        return
    with tarfile.open(path) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield Path(member.name).name, stream.read()


def _parse(name: str, blob: bytes) -> Arrays:
    if name.endswith(".bin"):
        rows = np.frombuffer(blob, np.uint8)
        if rows.size % 3073:
            raise ValueError(f"{name}; got {rows.size} bytes; expected a multiple of 3073")
        rows = rows.reshape(-1, 3073)
        return _to_images(rows[:, 1:]), rows[:, 0].astype(np.int64)
    batch = _ArrayUnpickler(io.BytesIO(blob), encoding="bytes").load()
    return _to_images(np.asarray(batch[b"data"], np.uint8)), np.asarray(batch[b"labels"], np.int64)


def _to_images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays, nothing that can run code."""

    ALLOWED = frozenset({("_reconstruct"), ("ndarray"), ("dtype"), ("scalar"), ("_frombuffer")})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise ValueError(f"CIFAR-10 batch; got {module}.{name}; expected only numpy arrays")
