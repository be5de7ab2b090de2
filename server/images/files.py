"""Says what kind of file it is, by its first bytes, and which part of it the decoder needs.

Only this module decides the format. Limits and decoders follow from it, never from what a library or a caller calls
the file.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL.Image import Image

from server.images.limits import DecodeLimit, check_size

WEBP_MAX_PIXELS = 4096 * 3072
"""Pillow holds the interpreter lock while it copies a WebP image's pixels."""
_STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP"}
_WEBP_HEAD_BYTES = 30
_GIF_HEAD_BYTES = 13
_GIF_FRAME = struct.Struct("<4H")

_RUNS_MAX_PIXELS = 4_000_000
"""Pillow decodes run-length coding in Python, byte by byte: so many pixels take it two seconds at most."""
_RUNS_FACTOR = 16
"""How many ordinary pixels take as long as one of run-length coding."""
_RUNS = (1, 2)
_OLD_HEADER_BYTES = 12


def _is_whole(_image: Image, _limit: DecodeLimit) -> None:
    """Check nothing: this decoder itself refuses a file that lacks pixels."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What a decoder reads: the file, or the part of it that makes its first picture.

    Shapes: stops are rising offsets into content, where decoding can be ended; see `LimitedFile`.
    """

    kind: str
    content: bytes
    exif: bytes | None = None
    xmp: bytes | None = None
    stops: Sequence[int] = ()
    is_limited: bool = True
    """Whether decoding can take so long that it reads from a `LimitedFile`."""
    check_whole: Callable[[Image, DecodeLimit], None] = _is_whole
    """Raises NotAnImage where the decoder returned fewer pixels than it should, without an error."""


def kind_of(data: bytes) -> str | None:
    """Return the format of a file's bytes; None if it is none of the five."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


def pixels_of(data: bytes) -> int | None:
    """Return the pixels that a file's header states, None where it states none; see `jpeg_pixels` for a JPEG.

    Pixels of run-length coding count as the ordinary pixels that take as long.
    """
    match kind_of(data):
        case "PNG":
            return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
        case "GIF" if (size := _gif_size(data)) is not None:
            return size[0] * size[1]
        case "BMP":
            width, height = _bmp_size(data)
            return width * height * (_RUNS_FACTOR if _has_runs(data) else 1)
        case "WEBP" if (size := _webp_size(data)) is not None:
            return size[0] * size[1]
    return None


def read_bmp(data: bytes, max_pixels: int, _limit: DecodeLimit) -> EncodedImage:
    """Return a BMP file as it is.

    Raises: NotAnImage, PayloadTooLarge for run-length coding of very many pixels.
    """
    if _has_runs(data):
        check_size(*_bmp_size(data), min(max_pixels, _RUNS_MAX_PIXELS))
    return EncodedImage("BMP", data, is_limited=False)


def _has_runs(data: bytes) -> bool:
    is_old = int.from_bytes(data[14:18], "little") == _OLD_HEADER_BYTES
    return not is_old and int.from_bytes(data[30:34], "little") in _RUNS


def _bmp_size(data: bytes) -> tuple[int, int]:
    if int.from_bytes(data[14:18], "little") == _OLD_HEADER_BYTES:
        return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
    return int.from_bytes(data[18:22], "little"), abs(int.from_bytes(data[22:26], "little", signed=True))


def read_webp(data: bytes, max_pixels: int, _limit: DecodeLimit) -> EncodedImage:
    """Return a WebP file as it is, once its size is checked: its decoder allocates the whole canvas at first.

    Raises: NotAnImage, PayloadTooLarge.
    """
    size = _webp_size(data)
    if size is not None:
        check_size(*size, min(max_pixels, WEBP_MAX_PIXELS))
    return EncodedImage("WEBP", data)


def _gif_size(data: bytes) -> tuple[int, int] | None:
    """Return the size of the first frame as decoded: the screen, or more where the frame is larger."""
    if len(data) < _GIF_HEAD_BYTES:
        return None
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = _GIF_HEAD_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while at + _GIF_FRAME.size < len(data) and data[at] != ord(";"):
        if data[at] == ord(","):
            left, top, across, down = _GIF_FRAME.unpack_from(data, at + 1)
            return max(width, left + across), max(height, top + down)
        at = _after_blocks(data, at + 2) if data[at] == ord("!") else at + 1
    return None


def _after_blocks(data: bytes, at: int) -> int:
    """Return where the blocks of a GIF's extension end."""
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height of the canvas, None where the first chunk has none: libwebp refuses that."""
    head, kind = data[:_WEBP_HEAD_BYTES], data[12:16]
    if len(head) < _WEBP_HEAD_BYTES:
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
