"""Reads a JPEG file marker by marker, up to the end of its first picture.

The result is the picture alone: no EXIF with a thumbnail, no colour profile, no second picture, nothing after the end.
So exactly what is checked here is decoded, whatever else the file holds.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from server.errors import NotAnImage, PayloadTooLarge, ServeError
from server.images.files import EncodedImage
from server.images.limits import DecodeLimit, check_passes, check_scans

KIND = "JPEG"
MAX_SEGMENTS = 16_384
"""Most segments of one picture. Even a profile of 16 MB and a depth map need only some hundreds."""

_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _EXIF, _XMP = 0xE1, b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# JFIF (APP0) and Adobe (APP14) say what the colours mean; all other application data, and comments, are not pixels.
_IGNORED = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Any marker but a stuffed FF and a restart, which are part of a scan's data."""
_SEARCH_BYTES = 1 << 20
"""What one search covers: a search holds the interpreter lock."""
_FRAME_BYTES, _COMPONENT_BYTES = 6, 3
_MAX_COMPONENTS = 4


def read_jpeg(data: bytes, max_pixels: int, limit: DecodeLimit) -> EncodedImage:
    """Return the picture of a JPEG file.

    Raises: NotAnImage if it is broken; PayloadTooLarge if its scans pass over its pixels too often.
    """
    view, pieces, stops, at = memoryview(data), [memoryview(data)[:2]], list[int](), 2
    exif = xmp = None
    frame, num_scans, num_samples = b"", 0, 0
    for code, start, end in _segments(data, limit):
        if code in _IGNORED:
            if code == _APP1 and exif is None and data.startswith(_EXIF, start + 4):
                exif = data[start + 4 : end]
            elif code == _APP1 and xmp is None and data.startswith(_XMP, start + 4):
                xmp = data[start + 4 + len(_XMP) : end]
            continue
        if code in _FRAMES:
            frame = frame or data[start + 4 : end]
        elif code == _SOS:
            num_scans += 1
            num_samples += _samples(frame, data[start + 4 : start + 5 + 2 * _MAX_COMPONENTS])
            check_scans(num_scans)
        pieces.append(view[start:end])
        at += end - start
        if code == _SOS:
            stops.append(at)
    check_passes(num_samples, max_pixels)
    return EncodedImage(KIND, b"".join(pieces), exif=exif, xmp=xmp, stops=stops)


def jpeg_pixels(data: bytes) -> int | None:
    """Return the pixels that a JPEG file states, None if no frame states them."""
    with suppress(ServeError):
        for code, start, end in _segments(data, DecodeLimit()):
            if code in _FRAMES:
                width, height = _size(data[start + 4 : end])
                return width * height
            if code == _SOS:
                break
    return None


def _segments(data: bytes, limit: DecodeLimit) -> Iterator[tuple[int, int, int]]:
    """Yield each segment's code, start and end, with its marker and length, and a scan with its data.

    A file without an end of picture is no error here: the decoder knows whether it has all pixels.
    """
    end = 2
    for _ in range(MAX_SEGMENTS):
        limit.check()
        start = _next_marker(data, end)
        if start == len(data):
            return
        code = data[start + 1]
        if code == _EOI:
            yield code, start, start + 2
            return
        if code == _TEM:
            end = start + 2
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if code == _SOI or not start + 4 <= end <= len(data):
            raise NotAnImage(f"the {KIND} image is broken", f"marker {code:02X} at byte {start}", "a complete file")
        if code == _SOS:
            end = _next_marker(data, end)
        yield code, start, end
    raise PayloadTooLarge(f"segments of the {KIND} image", f"more than {MAX_SEGMENTS}", f"at most {MAX_SEGMENTS}")


def _next_marker(data: bytes, start: int) -> int:
    """Return the offset of the next marker, or of the end of the file."""
    for at in range(start, len(data), _SEARCH_BYTES):
        match = _MARKER.search(data, at, at + _SEARCH_BYTES + 1)
        if match is not None:
            return match.start()
    return len(data)


def _samples(frame: bytes, scan: bytes) -> int:
    """Return how many samples a scan passes over, in all its components."""
    width, height = _size(frame)
    places = range(_FRAME_BYTES, len(frame) - _COMPONENT_BYTES + 1, _COMPONENT_BYTES)
    factors = {frame[at]: (frame[at + 1] >> 4, frame[at + 1] & 15) for at in places}
    most = [max((factor[axis] for factor in factors.values()), default=1) or 1 for axis in (0, 1)]
    names = scan[1 : 1 + 2 * scan[0] : 2] if scan else b""
    areas = [across * down for across, down in (factors.get(name, most) for name in names)]
    return width * height * sum(areas) // (most[0] * most[1])


def _size(frame: bytes) -> tuple[int, int]:
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
