"""Decodes uploaded bytes to the uint8 pixels that a model reads, and says where each pixel came from.

JPEG, PNG, WebP, BMP and GIF (first frame) are read; no other decoder is tried. The orientation of EXIF is applied,
transparent pixels become white, 16-bit samples are scaled rather than clipped, CMYK and palettes become RGB. Colour
profiles are ignored, as in training. An image that already has the model's size keeps all its pixels.
"""

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from server.errors import BadRequest, NotAnImage
from server.images.files import EncodedImage, kind_of, read_bmp, read_webp
from server.images.jpeg import read_jpeg
from server.images.limits import DecodeLimit, LimitedFile, PixelBudget, check_size
from server.images.orientation import read_orientation
from server.images.png import read_png
from server.models.manifest import Preprocessing
from server.records import Pixels

# Our own check of the kind chooses the plugin; Pillow's guess is never asked for.
_PLUGINS: dict[str, Callable[[BytesIO], ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
}
_READERS: dict[str, Callable[[bytes, int, DecodeLimit], EncodedImage]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WEBP": read_webp,
    "BMP": read_bmp,
    "GIF": lambda data, *_: EncodedImage("GIF", data),
}
EXPECTED = "a JPEG, PNG, WebP, BMP or GIF image"

# Our own pixel limit is checked from the header. Pillow's is lower, and only warns.
Image.MAX_IMAGE_PIXELS = None
# Pillow's warnings about a caller's file do not belong on our standard error.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What Pillow's parsers raise on broken bytes.
_DECODE_ERRORS = (
    OSError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, SyntaxError,
    EOFError, MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip

# Files that people upload by mistake, by their first bytes. Short text is often a file name: curl's "@" is missing.
_OTHER_KINDS = {b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "XML", b"<!DOCTYPE": "HTML", b"<html": "HTML"}
_OTHER_KINDS |= {b"PK\3\4": "ZIP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_ISO_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"avif": "AVIF"}
_HEAD_BYTES = 12
_SHORT_BYTES = 80

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset((5, 6, 7, 8))
_DRAFT_MARGIN = 4
_STRIP_PIXELS = 1 << 20

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the model's pixels lie in the uploaded image, seen upright.

    Units: width, height, left and top are pixels of the uploaded image; the scales are
    pixels of the uploaded image for one pixel of the model's input.
    """

    width: int
    height: int
    left: float
    top: float
    scale_x: float
    scale_y: float

    def to_upload(self, box: Box) -> Box:
        """Map a (left, top, right, bottom) box of the model's input onto the uploaded image."""
        left, top, right, bottom = box
        return (
            self.left + left * self.scale_x,
            self.top + top * self.scale_y,
            self.left + right * self.scale_x,
            self.top + bottom * self.scale_y,
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded upload.

    Shapes: pixels_HW3 (height, width, 3), the size that the model reads.
    """

    pixels_HW3: Pixels
    placement: Placement


def decode(
    data: bytes,
    target: Preprocessing,
    *,
    max_pixels: int,
    budget: PixelBudget | None = None,
    limit: DecodeLimit | None = None,
) -> Picture:
    """Decode one uploaded image into the pixels that a model reads.

    Raises: BadRequest if there are no bytes; NotAnImage if they are no image of the five formats, or one that lacks
    pixels; PayloadTooLarge if its header states more than max_pixels, or if decoding would pass over them too often, or
    if its request's pixel budget or the time of `limit` is used up; Cancelled if its request has ended.
    """
    if not data:
        raise BadRequest("the image is empty", "0 bytes", EXPECTED)
    limit = limit or DecodeLimit()
    with limit:
        source = _read(data, max_pixels, limit)
        image = _open(source, limit)
        check_size(image.width, image.height, max_pixels)
        if budget is not None:
            budget.spend(image.width * image.height)
        try:
            return _fit(image, source, target, limit)
        except _DECODE_ERRORS as error:
            raise NotAnImage(f"the {source.kind} image is broken", _first_line(error), "a complete file") from error


def _read(data: bytes, max_pixels: int, limit: DecodeLimit) -> EncodedImage:
    kind = kind_of(data)
    if kind is None:
        raise NotAnImage("the bytes are no image we can read", _describe(data), EXPECTED)
    return _READERS[kind](data, max_pixels, limit)


def _open(source: EncodedImage, limit: DecodeLimit) -> ImageFile:
    file = LimitedFile(source.content, limit, source.stops) if source.is_limited else BytesIO(source.content)
    try:
        return _PLUGINS[source.kind](file)
    except _DECODE_ERRORS as error:
        got = f"a broken {source.kind} image: {_first_line(error)}"
        raise NotAnImage("the bytes are no image we can read", got, EXPECTED) from error


def _fit(image: ImageFile, source: EncodedImage, target: Preprocessing, limit: DecodeLimit) -> Picture:
    """Read the pixels, bring them to the model's size and turn them upright, in this order.

    They are read once, because Pillow reports only once that an image is broken.
    """
    stored = image.size
    _draft(image, max(target.width, target.height))
    image.load()
    source.check_whole(image, limit)
    orientation = read_orientation(source.exif, source.xmp, image.info)
    is_sideways = orientation in _SIDEWAYS
    size = _turned((target.width, target.height), is_sideways)
    upright = _flatten(image)
    if upright.size != size:
        upright = upright.resize(size, Image.Resampling.BICUBIC, box=_window(upright.size, size, target))
    if orientation in _TRANSPOSE:
        upright = upright.transpose(_TRANSPOSE[orientation])
    placement = _place(_turned(stored, is_sideways), (target.width, target.height), target)
    return Picture(np.asarray(upright, dtype=np.uint8), placement)


def _turned(size: tuple[int, int], is_sideways: bool) -> tuple[int, int]:
    return (size[1], size[0]) if is_sideways else size


def _draft(image: Image.Image, side: int) -> None:
    """Let the JPEG decoder shrink a big photo, to no less than four times the model's size.

    The scaled inverse DCT keeps the low frequencies, which are what the antialiased resize
    to a quarter or less would keep: on photos the pixels differ by less than one level of 255
    in the mean, and a 10-megapixel photo decodes about ten times faster.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, (side * _DRAFT_MARGIN, side * _DRAFT_MARGIN))


def _window(source: tuple[int, int], size: tuple[int, int], target: Preprocessing) -> Box:
    """Return the part of the source that the model sees: all of it, or its centre."""
    width, height = source
    if target.resize == "squash":
        return (0, 0, width, height)
    scale = min(width / size[0], height / size[1])
    left, top = (width - size[0] * scale) / 2, (height - size[1] * scale) / 2
    return (left, top, left + size[0] * scale, top + size[1] * scale)


def _place(upload: tuple[int, int], size: tuple[int, int], target: Preprocessing) -> Placement:
    left, top, right, bottom = _window(upload, size, target)
    return Placement(*upload, left, top, (right - left) / size[0], (bottom - top) / size[1])


def _flatten(image: Image.Image) -> Image.Image:
    """Bring any mode to 8-bit RGB, with white where the image is transparent."""
    if image.mode.startswith("I"):
        return _flatten_16_bit(image)
    if image.has_transparency_data:
        return _flatten_transparent(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _flatten_transparent(image: Image.Image) -> Image.Image:
    """Composite on white, a few rows at a time: Pillow holds the interpreter lock while it does this."""
    flat = Image.new("RGB", image.size)
    for strip, top in _strips(image):
        white = Image.new("RGBA", strip.size, "white")
        white.alpha_composite(strip.convert("RGBA"))
        flat.paste(white.convert("RGB"), (0, top))
    return flat


def _flatten_16_bit(image: Image.Image) -> Image.Image:
    """Take the upper eight bits, rounded, a few rows at a time: all at once would take gigabytes of int64."""
    flat = Image.new("RGB", image.size)
    transparent = image.info.get("transparency")
    for strip, top in _strips(image):
        samples_HW = np.asarray(strip).astype(np.int64).clip(0, 65535)
        levels_HW = (samples_HW + 128) // 257
        if isinstance(transparent, int):
            levels_HW[samples_HW == transparent] = 255
        flat.paste(Image.fromarray(levels_HW.astype(np.uint8), mode="L").convert("RGB"), (0, top))
    return flat


def _strips(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """Yield strips of a few rows, each with the number of its first row."""
    num_rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, num_rows):
        yield image.crop((0, top, image.width, min(top + num_rows, image.height))), top


def _describe(data: bytes) -> str:
    """Name what came instead of an image, to help a caller who sent it by mistake."""
    kind = next((kind for start, kind in _OTHER_KINDS.items() if data[:_HEAD_BYTES].startswith(start)), None)
    kind = kind or _ISO_BRANDS.get(data[8:12] if data[4:8] == b"ftyp" else b"")
    if kind is not None:
        return kind
    if len(data) <= _SHORT_BYTES and data.isascii() and data.decode("ascii").isprintable():
        return f"the text {data.decode('ascii')!r}"
    return f"{len(data)} bytes that begin with {data[:_HEAD_BYTES]!r}"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
