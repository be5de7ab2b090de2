"""Reads gRPC messages: decompresses them, counts what they hold, and only then parses them.

Parsing holds the interpreter lock, and every input, output and parameter that it finds costs objects: 2 MB of empty
inputs would stop the event loop for seconds. So fields and values are counted in the bytes first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple, Self

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from server.dataplane import DataPlane
from server.errors import BadRequest, PayloadTooLarge
from server.http.body_memory import UNCOUNTED_BYTES
from server.http.bounded_json import TEXT_BYTES
from server.http.compression import decompress
from server.settings import Settings

NESTED_WEIGHT = 8
"""How many fields an input, an output, a parameter or another nested message counts as."""
_WITH_TENSORS = "ModelInferRequest"
_QUICK_BYTES = 256 * 1024
"""A message up to this size may be parsed in the turn of the event loop that received it."""
_CONTINUED = bytes(range(128, 256))
"""The bytes of a varint after which it continues."""
_MAX_VARINT_BYTES = 10
_GZIP, _ZLIB = b"\x1f\x8b", 0x78
"""First bytes of compressed messages. No protocol buffer begins as gzip does, and none of ours as zlib does."""


class _FieldKind(IntEnum):
    """How a field's bytes count: raw bytes cost almost nothing, text and numbers as much as in JSON."""

    RAW = 0
    TEXT = 1
    VARINTS = 2
    WORDS = 3
    DOUBLES = 4


_Fields = Mapping[int, "_FieldKind | _Fields"]
_SIZES = {_FieldKind.WORDS: 4, _FieldKind.DOUBLES: 8, _FieldKind.TEXT: TEXT_BYTES}
_F = FieldDescriptor
_FORMS = {
    _F.TYPE_BYTES: _FieldKind.RAW,
    _F.TYPE_STRING: _FieldKind.TEXT,
    **dict.fromkeys((_F.TYPE_FLOAT, _F.TYPE_FIXED32, _F.TYPE_SFIXED32), _FieldKind.WORDS),
    **dict.fromkeys((_F.TYPE_DOUBLE, _F.TYPE_FIXED64, _F.TYPE_SFIXED64), _FieldKind.DOUBLES),
}


class MessageLimits(NamedTuple):
    """What a message may hold: decompressed bytes, fields, and values of typed contents and text."""

    max_bytes: int
    max_fields: int
    max_values: int

    @classmethod
    def of(cls, settings: Settings, *, with_tensors: bool) -> Self:
        """Return the limits of inferences, or those of messages that hold only a few names."""
        limits = settings.json_limits if with_tensors else settings.small_json_limits
        return cls(settings.largest_message_bytes, settings.max_message_fields, limits.max_values)


class MessageReader:
    """Reads the requests of one method: decompresses, counts, parses."""

    def __init__(self, message: Any, limits: MessageLimits, plane: DataPlane) -> None:
        self._body_memory, self._decode_pool = plane.body_memory, plane.decode_pool
        self._parse: Callable[[bytes], Any] = message.FromString
        self._name: str = message.DESCRIPTOR.name
        self._fields = _fields_of(message.DESCRIPTOR)
        self._limits = limits

    @asynccontextmanager
    async def opened(self, data: bytes, *, free_bytes: int = UNCOUNTED_BYTES) -> AsyncIterator[Any]:
        """Yield a message from its bytes, compressed or not; all but `free_bytes` of them count as held meanwhile.

        Raises: PayloadTooLarge if it holds more than it may; BadRequest if it cannot be parsed; Overloaded if all
        bodies and messages together hold more than they may.
        """
        held_bytes = self._body_memory.grow(0, len(data), free_bytes)
        try:
            if (coding := _coding_of(data)) is not None:
                data = await self._decompressed(data, coding)
                held_bytes = self._body_memory.grow(held_bytes, len(data), free_bytes)
            elif len(data) > _QUICK_BYTES:
                await asyncio.sleep(0)
            self.check(data)
            yield self._parsed(data)
        finally:
            self._body_memory.release(held_bytes)

    def _decompressed(self, data: bytes, coding: str) -> Awaitable[bytes]:
        undo = partial(decompress, data, coding, max_bytes=self._limits.max_bytes)
        return self._decode_pool.run(undo)

    def _parsed(self, data: bytes) -> Any:
        try:
            return self._parse(data)
        except DecodeError:
            raise self._unreadable(data) from None

    def check(self, data: bytes) -> None:
        """Return if a message holds no more than it may.

        Raises: PayloadTooLarge; BadRequest.
        """
        # A field has at least two bytes.
        if len(data) * NESTED_WEIGHT // 2 <= min(self._limits.max_fields, self._limits.max_values):
            return
        try:
            _Counter(data, self._limits).add(0, len(data), self._fields)
        except (IndexError, ValueError):
            raise self._unreadable(data) from None

    def _unreadable(self, data: bytes) -> BadRequest:
        return BadRequest("message", f"{len(data)} bytes that are none", self._name)


def build_message_reader(message: Any, plane: DataPlane, settings: Settings) -> MessageReader:
    """Return the reader for messages of one type."""
    with_tensors = message.DESCRIPTOR.name == _WITH_TENSORS
    return MessageReader(message, MessageLimits.of(settings, with_tensors=with_tensors), plane)


class _Counter:
    """Counts fields and values in a message's bytes, without building objects."""

    def __init__(self, data: bytes, limits: MessageLimits) -> None:
        self._data = data
        self._limits = limits
        self._num_fields = 0
        self._num_values = 0

    def add(self, at: int, end: int, fields: _Fields) -> None:
        """Count the fields between two offsets.

        Raises: PayloadTooLarge; IndexError or ValueError where the bytes are no fields.
        """
        data, max_fields = self._data, self._limits.max_fields
        while at < end:
            tag, at = self._varint(at)
            self._num_fields += 1
            if self._num_fields > max_fields:
                raise self._too_many_fields()
            kind = tag & 7
            if kind == 2:
                size, start = self._varint(at)
                at = start + size
                if at > end:
                    raise ValueError(tag)
                self._add_bytes(start, at, fields.get(tag >> 3, _FieldKind.TEXT))
            elif kind == 0:
                _, at = self._varint(at)
            elif kind in {1, 5}:
                at += 8 if kind == 1 else 4
            else:
                raise ValueError(tag)  # a group, of which proto3 has none
        if at != end or at > len(data):
            raise ValueError(at)

    def _add_bytes(self, start: int, end: int, form: "_FieldKind | _Fields") -> None:
        if isinstance(form, Mapping):
            self._num_fields += NESTED_WEIGHT - 1
            self.add(start, end, form)
        elif form is _FieldKind.VARINTS:
            self._add_values(len(self._data[start:end].translate(None, _CONTINUED)))
        elif form is not _FieldKind.RAW:
            self._add_values((end - start) // _SIZES[form])

    def _add_values(self, count: int) -> None:
        self._num_values += count
        if self._num_values > self._limits.max_values:
            most = f"at most {self._limits.max_values}, where {TEXT_BYTES} bytes of text are one"
            raise PayloadTooLarge(
                "values in a message", self._num_values, f"{most}: send tensors in raw_input_contents"
            )

    def _varint(self, at: int) -> tuple[int, int]:
        """Return the varint at an offset, and the offset after it."""
        data = self._data
        byte = data[at]
        if byte < 128:
            return byte, at + 1
        number = shift = 0
        for place in range(at, at + _MAX_VARINT_BYTES):
            byte = data[place]
            number |= (byte & 127) << shift
            if byte < 128:
                return number, place + 1
            shift += 7
        raise ValueError(at)

    def _too_many_fields(self) -> PayloadTooLarge:
        most = f"at most {self._limits.max_fields}, where an input, an output or a parameter counts as {NESTED_WEIGHT}"
        return PayloadTooLarge("fields in a message", f"more than {self._limits.max_fields}", most)


def _coding_of(data: bytes) -> str | None:
    """Return how a message is compressed, by its first bytes: gRPC does not pass its own flag on."""
    if data[:2] == _GZIP:
        return "gzip"
    if len(data) > 1 and data[0] == _ZLIB and int.from_bytes(data[:2]) % 31 == 0:
        return "deflate"
    return None


def _fields_of(descriptor: Descriptor) -> _Fields:
    """Return how the fields of a message count, by their numbers, with those of nested messages."""
    return {
        field.number: _fields_of(field.message_type)
        if field.message_type is not None
        else _FORMS.get(field.type, _FieldKind.VARINTS)
        for field in descriptor.fields
    }
