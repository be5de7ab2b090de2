"""Splits a `multipart/form-data` body into its parts, in memory: the size of the body is limited before."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from server.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_TYPE_CHARS = 1000
"""Longest Content-Type: a boundary has 70 characters at most, and parsing costs a microsecond a character."""
_CHUNK_BYTES = 1 << 20
"""What is parsed in one step: one search through a long body would hold the interpreter lock for long."""


@dataclass(slots=True)
class Part:
    """One part of a form; `filename` is None for a plain field."""

    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)


def split(body: bytes, content_type: str, *, max_parts: int) -> list[Part]:
    """Split a form into its parts, in order.

    Raises: BadRequest if the form is malformed, cut short, or has more than max_parts parts.
    """
    if len(content_type) > _MAX_TYPE_CHARS:
        raise BadRequest("Content-Type", content_type, f"at most {_MAX_TYPE_CHARS} characters")
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("multipart body", content_type, "a Content-Type with a boundary")
    form = _Form(max_parts)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        for start in range(0, len(body), _CHUNK_BYTES):
            parser.write(body[start : start + _CHUNK_BYTES])
    except FormParserError as error:
        raise BadRequest("multipart body", str(error), "well-formed parts between boundaries") from error
    if not form.is_complete:
        raise BadRequest("multipart body", f"{len(body)} bytes without the closing boundary", "the whole form")
    return form.parts


class _Form:
    """The parts that the parser's callbacks build."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self.is_complete = False
        self._max_parts = max_parts
        self._header = bytearray()
        self._value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_header_begin": self._header_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise BadRequest("multipart body", f"more than {self._max_parts} parts", f"at most {self._max_parts}")
        self.parts.append(Part())

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _header_begin(self) -> None:
        self._header, self._value = bytearray(), bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() != b"content-disposition":
            return
        options = parse_options_header(bytes(self._value))[1]
        self.parts[-1].name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            self.parts[-1].filename = options[b"filename"].decode("utf-8", "replace")

    def _headers_finished(self) -> None:
        if not self.parts[-1].name:
            raise BadRequest("multipart body", "a part without a name", "Content-Disposition: form-data; name=...")

    def _end(self) -> None:
        self.is_complete = True
