"""Reads a PNG file chunk by chunk, and writes it again as one plain picture.

All its data become one chunk, and animation is left out, so the picture that is decoded is the one that every decoder
shows first.
"""

import struct
import zlib
from collections.abc import Iterator
from functools import partial
from math import ceil

import numpy as np
from PIL.Image import Image

from server.errors import NotAnImage, PayloadTooLarge
from server.images.files import EncodedImage
from server.images.limits import DecodeLimit

KIND = "PNG"
MAX_CHUNKS = 1 << 16
"""Most chunks of a file: an encoder writes one for every 8 KiB or so."""

_START = 8
_FRAME = struct.Struct(">I4s")
_END = _FRAME.pack(0, b"IEND") + struct.pack(">I", zlib.crc32(b"IEND"))
_LEFT_OUT = {b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iCCP"}
_HEADER = struct.Struct(">II5B")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""The passes of an interlaced image: the first column and row, and the steps to the next."""
_PIECE_BYTES = 1 << 20


def read_png(data: bytes, _max_pixels: int, limit: DecodeLimit) -> EncodedImage:
    """Return the first picture of a PNG file.

    Raises: NotAnImage if it has two headers; PayloadTooLarge for a file of very many chunks.
    """
    view = memoryview(data)
    head, picture, tail = [view[:_START]], list[memoryview](), list[memoryview]()
    exif, header = None, b""
    for name, start, end in _chunks(data, limit):
        if name == b"IDAT":
            picture.append(view[start + 8 : end - 4])
        elif name == b"eXIf":
            exif = exif or data[start + 8 : end - 4]
        elif name not in _LEFT_OUT:
            if name == b"IHDR":
                if header:
                    raise NotAnImage(f"the {KIND} image is broken", "a second header", "a complete file")
                header = data[start + 8 : end - 4]
            (tail if picture else head).append(view[start:end])
    joined = b"".join(picture)
    idat = [_FRAME.pack(len(joined), b"IDAT"), joined, struct.pack(">I", zlib.crc32(joined, zlib.crc32(b"IDAT")))]
    content = b"".join([*head, *(idat if picture else ()), *tail, _END])
    return EncodedImage(KIND, content, exif=exif, check_whole=partial(_check_whole, header, joined))


def _chunks(data: bytes, limit: DecodeLimit) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's name, start and end, with its length and checksum.

    The last one of a truncated file goes beyond the file's end.
    """
    start = _START
    for _ in range(MAX_CHUNKS):
        limit.check()
        if start + _FRAME.size > len(data):
            return
        length, name = _FRAME.unpack_from(data, start)
        end = start + 12 + length
        yield name, start, end
        if name == b"IEND":
            return
        start = end
    raise PayloadTooLarge(f"chunks of the {KIND} image", f"more than {MAX_CHUNKS}", f"at most {MAX_CHUNKS}")


def _check_whole(header: bytes, compressed: bytes, image: Image, limit: DecodeLimit) -> None:
    """Raise NotAnImage if the data end before the last row: Pillow reports nothing, and leaves black pixels.

    Rows come from top to bottom, so the data are counted only where the last row is black, or where rows come in
    several passes.
    """
    width, height, depth, color, _, _, interlaced = _HEADER.unpack_from(header)
    last = image.crop((0, image.height - 1, image.width, image.height))
    if not interlaced and np.asarray(last).any():
        return
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = sum(_pass_bytes(width, height, depth * _CHANNELS[color], each) for each in passes)
    if (got := _count(compressed, expected, limit)) < expected:
        raise NotAnImage(f"the {KIND} image is broken", f"{got} bytes of pixels", f"{expected} bytes of pixels")


def _pass_bytes(width: int, height: int, bits: int, one: tuple[int, int, int, int]) -> int:
    """Return the bytes of one pass over an image: each row has one more than its pixels need."""
    left, top, step_x, step_y = one
    columns, rows = ceil(max(0, width - left) / step_x), ceil(max(0, height - top) / step_y)
    return rows * (1 + ceil(columns * bits / 8)) if columns else 0


def _count(compressed: bytes, enough: int, limit: DecodeLimit) -> int:
    """Return how many bytes something decompresses to, counted no further than `enough`."""
    unpacker, count = zlib.decompressobj(), 0
    for start in range(0, len(compressed), _PIECE_BYTES):
        piece = rest = compressed[start : start + _PIECE_BYTES]
        while count < enough and (piece or rest):
            limit.check()
            piece = unpacker.decompress(rest, _PIECE_BYTES)
            rest = unpacker.unconsumed_tail
            count += len(piece)
    return count
