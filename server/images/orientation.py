"""Which way up the camera was held, from EXIF or XMP.

Only this one tag is read: a general parser reads, keeps and logs everything that a directory points to.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

UPRIGHT = 1
_TAG = 0x0112
_SHORT, _LONG = 3, 4
_ENTRY_BYTES = 12
_PREFIX = b"Exif\0\0"
_XMP = re.compile(rb'tiff:Orientation(="|>)([0-9])')
_XMP_BYTES = 1 << 20
"""How much of XMP is searched: the tag is near its beginning, and a search holds the interpreter lock."""
_RAW_PROFILE = "Raw profile type exif"
"""Where ImageMagick puts EXIF in a PNG: three lines, then hexadecimal digits."""


def read_orientation(exif: bytes | None, xmp: bytes | None, info: Mapping[Any, Any]) -> int:
    """Return EXIF's orientation, 1 to 8; XMP's where EXIF has none; 1 where neither has one that can be read.

    `info` is what Pillow found beside the pixels.
    """
    exif = exif or info.get("exif") or _from_raw_profile(info.get(_RAW_PROFILE))
    found = _from_exif(exif.removeprefix(_PREFIX)) if exif else None
    if found is None:
        found = _from_xmp(xmp or info.get("xmp") or info.get("XML:com.adobe.xmp"))
    return found if found is not None else UPRIGHT


def _from_exif(tiff: bytes) -> int | None:
    """Return the tag of a TIFF file's first directory, None if it has none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return None
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(order + "H", tiff, start)
    count = min(count, (len(tiff) - start - 2) // _ENTRY_BYTES)
    for at in range(start + 2, start + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind = struct.unpack_from(order + "HH", tiff, at)
        if tag == _TAG:
            form = {_SHORT: "H", _LONG: "I"}.get(kind)
            return None if form is None else int(struct.unpack_from(order + form, tiff, at + 8)[0])
    return None


def _from_xmp(xmp: bytes | str | None) -> int | None:
    if not xmp:
        return None
    head = xmp[:_XMP_BYTES]
    match = _XMP.search(head.encode("utf-8", "replace") if isinstance(head, str) else head)
    return None if match is None else int(match[2])


def _from_raw_profile(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None
