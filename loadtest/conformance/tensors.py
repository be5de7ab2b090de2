"""Tensors as a client holds them, and their two forms on the wire: JSON values and raw bytes."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.conformance.expect import Failure, Skip

DTYPES: dict[str, str] = {
    "BOOL": "?",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
BYTES = "BYTES"
DATATYPES = frozenset({*DTYPES, BYTES, "BF16"})
_NOT_IN_JSON = {"FP16", "BF16"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `items` are its elements in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    items: Sequence[Any]

    def to_raw(self) -> bytes:
        """Return little-endian elements; BYTES as a length and the bytes of each."""
        if self.datatype == BYTES:
            return b"".join(struct.pack("<I", len(item)) + item for item in self.items)
        return np.asarray(self.items, DTYPES[self.datatype]).tobytes()

    def to_values(self) -> list[Any]:
        """Return flat JSON values.

        Raises: Skip where the datatype or the bytes have no JSON form.
        """
        if self.datatype in _NOT_IN_JSON:
            raise Skip(f"input {self.name} is {self.datatype}, which has no JSON form")
        if self.datatype != BYTES:
            values: list[Any] = np.asarray(self.items, DTYPES[self.datatype]).tolist()
            return values
        try:
            return [item.decode("utf-8", "strict") for item in self.items]
        except UnicodeDecodeError as error:
            raise Skip(f"input {self.name} is not UTF-8, so it has no JSON form") from error

    def to_nested(self) -> Any:
        """Return JSON values nested as the shape says."""
        values: list[Any] = self.to_values()
        for size in reversed(self.shape[1:]):
            values = [values[start : start + size] for start in range(0, len(values), size)]
        return values


def item_size(datatype: str) -> int:
    """Return the bytes of one element.

    Raises: Skip for BYTES, whose elements differ.
    """
    if datatype == BYTES:
        raise Skip("BYTES elements have no fixed size")
    return 2 if datatype == "BF16" else np.dtype(DTYPES[datatype]).itemsize


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Return the tensor that raw bytes hold.

    Raises: Failure if their number does not fit the shape.
    """
    if datatype == BYTES:
        items: Sequence[Any] = split_bytes(raw)
    else:
        size = item_size(datatype)
        if len(raw) != prod(shape) * size:
            raise Failure(f"output {name}; got {len(raw)} bytes for {list(shape)}; expected {prod(shape) * size}")
        items = np.frombuffer(raw, DTYPES.get(datatype, "<u2")).tolist()
    if len(items) != prod(shape):
        raise Failure(f"output {name}; got {len(items)} elements; expected {prod(shape)} for {list(shape)}")
    return Tensor(name, datatype, tuple(shape), items)


def split_bytes(raw: bytes) -> list[bytes]:
    """Return the elements of a raw BYTES tensor.

    Raises: Failure if lengths and bytes do not fit each other.
    """
    items, offset = [], 0
    while offset < len(raw):
        if offset + 4 > len(raw):
            raise Failure(f"got {len(raw) - offset} bytes where a length should be; expected 4")
        (size,) = struct.unpack_from("<I", raw, offset)
        if offset + 4 + size > len(raw):
            raise Failure(f"got a BYTES element of {size} bytes; expected at most {len(raw) - offset - 4}")
        items.append(raw[offset + 4 : offset + 4 + size])
        offset += 4 + size
    return items


def are_close(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold the same but for rounding."""
    if (one.datatype, one.shape) != (other.datatype, other.shape):
        return False
    if one.datatype == BYTES:
        return list(one.items) == list(other.items)
    return bool(np.allclose(_numbers(one), _numbers(other), rtol=1e-3, atol=1e-4, equal_nan=True))


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.items, np.float64)
