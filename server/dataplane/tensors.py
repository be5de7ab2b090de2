"""Tensors in the protocol's forms: little-endian, row-major, strings of any bytes with a 4-byte length.

Memory for a tensor is allocated only once its shape agrees with the bytes that came.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import BadRequest

Buffer = bytes | memoryview
Shape = Sequence[int]
BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "INT8": np.dtype("i1"),
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
"""The numeric datatypes that models here take or give."""
_LENGTH = struct.Struct("<I")
MAX_DIMS = 8
"""Most dimensions of a tensor, for every model."""


@dataclass(slots=True)  # not frozen, as a receipt is not
class InputTensor:
    """One input tensor, not yet checked: `raw` is its binary form, else `values` are its elements, flat."""

    name: str
    datatype: str
    shape: Sequence[int]
    raw: Buffer | None = None
    values: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the caller asks for; with `num_classes` above 0 as strings of its best classes."""

    name: str
    num_classes: int = 0


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output: an array of a numeric datatype, or the strings of a BYTES tensor, row-major."""

    name: str
    datatype: str
    shape: Shape
    data: NDArray[Any] | list[bytes]

    def to_raw(self) -> bytes:
        """Return the binary form."""
        return join_strings(self.data) if isinstance(self.data, list) else self.data.tobytes()

    def to_values(self) -> NDArray[Any] | list[str]:
        """Return the flat values of the JSON form."""
        if isinstance(self.data, list):
            return [text.decode("utf-8", "replace") for text in self.data]
        return self.data.ravel()


def numbers_from_raw(what: str, raw: Buffer, datatype: str, shape: Shape) -> NDArray[Any]:
    """Return a view of the bytes as an array.

    Raises: BadRequest if their number is not what the shape says.
    """
    dtype = DTYPES[datatype]
    num_bytes = prod(shape) * dtype.itemsize
    if len(raw) != num_bytes:
        raise BadRequest(what, f"{len(raw)} bytes", f"{num_bytes} bytes for {datatype} {list(shape)}")
    return np.frombuffer(raw, dtype).reshape(shape)


def numbers_from_values(what: str, values: Sequence[Any], datatype: str, shape: Shape) -> NDArray[Any]:
    """Return flat integers as an array.

    Raises: BadRequest if there are not as many as the shape says, if one is no integer, or out of range.
    """
    _check_count(what, values, shape)
    if not set(map(type, values)) <= {int}:
        raise BadRequest(what, next(value for value in values if type(value) is not int), "integers")
    limits = np.iinfo(DTYPES[datatype])
    if values and (min(values) < limits.min or max(values) > limits.max):
        got = next(value for value in values if not limits.min <= value <= limits.max)
        raise BadRequest(what, got, f"integers from {limits.min} to {limits.max}")
    return np.array(values, DTYPES[datatype]).reshape(shape)


def strings_from_raw(what: str, raw: Buffer, shape: Shape) -> list[bytes]:
    """Return the strings of a BYTES tensor.

    Raises: BadRequest if the bytes end before, or go on after, as many strings as the shape says.
    """
    count, offset, view = prod(shape), 0, memoryview(raw)
    if count * _LENGTH.size > len(view):
        raise BadRequest(what, f"{len(view)} bytes", f"at least {count * _LENGTH.size} bytes for {count} strings")
    strings: list[bytes] = []
    while len(strings) < count:
        if offset + _LENGTH.size > len(view):
            raise BadRequest(what, f"{len(view)} bytes", f"the length of string {len(strings)} at byte {offset}")
        (size,) = _LENGTH.unpack_from(view, offset)
        offset += _LENGTH.size
        if offset + size > len(view):
            raise BadRequest(what, f"{len(view) - offset} bytes of string {len(strings)}", f"{size} bytes")
        strings.append(bytes(view[offset : offset + size]))
        offset += size
    if offset != len(view):
        raise BadRequest(what, f"{len(view) - offset} bytes after the last string", f"{count} strings")
    return strings


def strings_from_values(what: str, values: Sequence[Any], shape: Shape) -> list[bytes]:
    """Return flat strings as bytes; text is UTF-8.

    Raises: BadRequest if there are not as many as the shape says, or one is no string.
    """
    _check_count(what, values, shape)
    strings = [value.encode() if isinstance(value, str) else value for value in values]
    for string in strings:
        if not isinstance(string, bytes):
            raise BadRequest(what, string, "strings")
    return strings


def join_strings(strings: Iterable[bytes]) -> bytes:
    """Return the binary form of a BYTES tensor."""
    return b"".join(_LENGTH.pack(len(string)) + string for string in strings)


def _check_count(what: str, values: Sequence[Any], shape: Shape) -> None:
    if len(values) != prod(shape):
        raise BadRequest(what, f"{len(values)} values", f"{prod(shape)} for shape {list(shape)}")
