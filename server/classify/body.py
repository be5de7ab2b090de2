"""Reads the body of a classify request: images as the raw body, in a form, or as base64 in JSON."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from server.classify.multipart import Part, split
from server.errors import BadRequest
from server.http.bounded_json import read_json
from server.params import PARAMETERS
from server.settings import JsonLimits

FILE_NAMES = ("file", "files")
IMAGE_NAMES = ("image", "images")
_SPACES = " \t\r\n"
_PIECE_CHARS = 1 << 20
"""A multiple of four, so that each piece is base64 by itself."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One image as it arrived: bytes, or base64 text that is decoded later; `file` is its name in a form."""

    content: bytes | str
    file: str | None = None

    def to_bytes(self) -> bytes:
        """Return the image's bytes.

        Raises: BadRequest if the text is no base64.
        """
        return _from_base64(self.content) if isinstance(self.content, str) else self.content


@dataclass(frozen=True, slots=True)
class ClassifyBody:
    """What one body holds: its images, in order, and the parameters beside them, not yet parsed."""

    uploads: tuple[Upload, ...]
    fields: Mapping[str, object]
    place: str


def read_body(body: bytes, content_type: str, *, max_files: int, json_limits: JsonLimits) -> ClassifyBody:
    """Read a body by its content type: JSON, a form, or anything else as one image's bytes.

    Raises: BadRequest if it is malformed, holds no image or more than max_files; what `read_json` raises for JSON
    beyond its limits.
    """
    if not body:
        raise BadRequest("the request body is empty", "0 bytes", "an image: raw, in a form, or as base64 in JSON")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        found = _from_form(split(body, content_type, max_parts=max_files + len(PARAMETERS)))
    elif media_type == "application/json":
        found = _from_json(body, json_limits)
    else:
        return ClassifyBody((Upload(body),), {}, "body")
    if len(found.uploads) > max_files:
        raise BadRequest("too many images in one request", len(found.uploads), f"at most {max_files}")
    return found


def _from_form(parts: list[Part]) -> ClassifyBody:
    uploads, fields = [], {}
    for part in parts:
        if part.name in FILE_NAMES:
            uploads.append(Upload(bytes(part.data), part.filename))
        elif part.filename is not None:
            raise BadRequest("file field of the form", part.name, f"any of {', '.join(FILE_NAMES)}")
        elif part.name in fields:
            raise BadRequest(f"{part.name} in the form", "more than one value", "one")
        else:
            fields[part.name] = part.data.decode("utf-8", "replace")
    if not uploads:
        raise BadRequest("the form holds no image", ", ".join(fields) or "no fields", "a file in the field file")
    return ClassifyBody(tuple(uploads), fields, "form")


def _from_json(body: bytes, limits: JsonLimits) -> ClassifyBody:
    try:
        document = read_json(body, limits)
    except orjson.JSONDecodeError as error:
        raise BadRequest("JSON body", str(error), 'an object such as {"image": "<base64>"}') from error
    if not isinstance(document, dict):
        raise BadRequest("JSON body", type(document).__name__, 'an object such as {"image": "<base64>"}')
    given = [name for name in IMAGE_NAMES if name in document]
    if len(given) != 1:
        raise BadRequest("images in the JSON body", " and ".join(given) or "neither image nor images", "one of the two")
    value = document.pop(given[0])
    texts = [value] if given[0] == "image" else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRequest(f"{given[0]} in the JSON body", value, "base64 text" if texts == [value] else "base64 texts")
    return ClassifyBody(tuple(Upload(text) for text in texts), document, "JSON body")


def _from_base64(text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    has_spaces = any(space in text for space in _SPACES)
    dense = text.translate(str.maketrans("", "", _SPACES)) if has_spaces else text
    try:
        if "=" in dense[:-2]:
            raise ValueError("padding before the end")
        # Piece by piece: decoding holds the interpreter lock.
        pieces = (dense[start : start + _PIECE_CHARS] for start in range(0, len(dense), _PIECE_CHARS))
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("base64 of an image", text, "only A-Z a-z 0-9 + / with = at the end") from error
