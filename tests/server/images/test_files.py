"""Exactly what is checked of a file is decoded of it, whatever else the file holds, is called, or lacks."""

import io
import logging
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from server.errors import NotAnImage, PayloadTooLarge, ServeError
from server.images import Picture, decode
from server.images.files import kind_of, pixels_of
from server.images.jpeg import MAX_SEGMENTS, jpeg_pixels
from server.images.png import MAX_CHUNKS
from server.models.manifest import Preprocessing
from tests.server.images.test_decode import chunk, encode, noise, png, smooth

TARGET = Preprocessing(height=60, width=80, resize="squash")
MAX_PIXELS = 1_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SOS, EOI = b"\xff\xda", b"\xff\xd9"


def read(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    return decode(data, TARGET, max_pixels=max_pixels)


def same(one: bytes, other: bytes) -> bool:
    return np.array_equal(read(one).pixels_HW3, read(other).pixels_HW3)


def photo(kind: str = "JPEG", **options: object) -> bytes:
    return encode(Image.fromarray(smooth(80, 60)), kind, **options)


def segment(code: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def again_and_again(num_scans: int, size: tuple[int, int] = (80, 60)) -> bytes:
    """A JPEG whose last scan comes so many times more."""
    data = encode(Image.new("L", size, 128), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xc4", 0, data.rfind(SOS)) : -2]
    return data[:-2] + num_scans * scan + EOI


def mpf() -> bytes:
    """The segment for which Pillow calls a JPEG an MPO."""
    images = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encode(images[0], "MPO", save_all=True, append_images=images[1:])
    start = data.find(b"\xff\xe2")
    return data[start : start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")]


# --- The scans of the picture, and no others -----------------------------------------------


@pytest.mark.parametrize("extra", [b"", mpf(), segment(0xFE, b"x"), b"\xff" * 4], ids=["jpeg", "mpo", "com", "fill"])
def test_scans_count_whatever_a_file_is_called(extra):
    with pytest.raises(PayloadTooLarge, match="scans of the JPEG image; got 101; expected at most 100"):
        read(with_segments(again_and_again(200), extra))


def test_a_few_scans_of_very_many_pixels_are_too_many():
    data = again_and_again(40, (1000, 1000))
    with pytest.raises(PayloadTooLarge, match="samples that the scans of the JPEG image pass over; got 4"):
        read(data)
    assert read(data, max_pixels=2_000_000)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_an_honest_photo_of_the_largest_size_passes_over_few_samples(progressive, subsampling):
    data = encode(Image.new("CMYK" if subsampling == 0 else "RGB", (500, 400)), "JPEG", progressive=progressive)
    assert read(data, max_pixels=200_000)


HIDING = {
    "a profile": lambda data: with_segments(data, segment(0xE2, b"ICC_PROFILE\0\1\1" + SOS * 5000)),
    "exif": lambda data: with_segments(data, segment(0xE1, b"Exif\0\0" + SOS * 5000)),
    "a comment": lambda data: with_segments(data, segment(0xFE, SOS * 5000)),
    "behind the end": lambda data: data + SOS * 5000,
    "megabytes behind the end": lambda data: data + np.random.default_rng(0).bytes(8_000_000),
    "a film behind the end": lambda data: data + b"\0\0\0\x18ftypmp42" + again_and_again(200),
    "twice": lambda data: data + data,
    "two pictures": lambda data: with_segments(data, mpf()) + data,
}


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_no_part_of_the_picture_is_not_counted(hide, progressive):
    data = photo(progressive=progressive)
    assert same(hide(data), data)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"quality": 1}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_read_as_pillow_reads_it(mode, options):
    image = Image.fromarray(noise(80, 60)).convert(mode)
    data = with_segments(encode(image, "JPEG", **options), mpf(), segment(0xEC, b"Ducky"), segment(0xFE, b"hello"))
    expected = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(read(data).pixels_HW3, np.asarray(expected))


def test_fill_bytes_before_markers_are_allowed():
    data = photo()
    assert same(data[:2] + b"\xff\xff" + data[2:-2] + b"\xff\xff" + EOI, data)


SPOILING = {
    "a second beginning": lambda data: with_segments(data, b"\xff\xd8"),
    "too short a segment": lambda data: with_segments(data, b"\xff\xe1\0\1"),
    "a second frame": lambda data: with_segments(data, segment(0xC0, b"\x08\0\x08\0\x08\1\1\x11\0")),
    "no frame": lambda data: data.replace(b"\xff\xc0", b"\xff\xc8"),
    "no scan": lambda data: data[: data.find(SOS)],
    "no scan but an end": lambda data: data[: data.find(SOS)] + EOI,
    "a beginning": lambda data: data[:3],
}


@pytest.mark.parametrize("spoil", SPOILING.values(), ids=SPOILING)
def test_a_jpeg_whose_segments_are_wrong_is_broken(spoil):
    with pytest.raises(NotAnImage, match="broken"):
        read(spoil(photo()))


# --- Files of very many pieces, sizes and promises -----------------------------------------


def costs(data: bytes, max_pixels: int = 50_000_000) -> float:
    """Read a file, or refuse to, and give the processor time that it took."""
    began_s = time.thread_time()
    with suppress(ServeError):
        read(data, max_pixels)
    return time.thread_time() - began_s


COSTLY = {
    "exif segments": lambda: with_segments(photo(), segment(0xE1, b"Exif\0\0abcdefgh") * 300_000),
    "comments": lambda: with_segments(photo(), segment(0xFE, b"") * 1_000_000),
    "profiles": lambda: with_segments(photo(), segment(0xE2, b"ICC_PROFILE\0\1\1") * (MAX_SEGMENTS - 100)),
    "chunks": lambda: png(80, 60, depth=8, color=0, rows=b"\0" * 4860, extra=chunk(b"abCd", b"") * 500_000),
    "data chunks": lambda: png(80, 60, depth=8, color=0, rows=b"\0" * 4860, extra=chunk(b"IDAT", b"") * 500_000),
    "a comment of crumbs": lambda: b"GIF89a\1\0\1\0\0\0\0!\xfe" + b"\1x" * 2_000_000 + b"\0;",
    "comments of a GIF": lambda: b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\0" * 2_000_000 + b";",
    "a row of runs": lambda: bmp(49_000_000, 1, b"\1\5\0\0"),
    "rows of runs": lambda: bmp(7000, 7000, b"\1\5\0\0" * 7000),
    "a row": lambda: png(49_000_000, 1, depth=1, color=0, rows=bytes(6_125_001)),
    "a column": lambda: png(1, 49_000_000, depth=1, color=0, rows=bytes(98_000_000)),
    "a canvas": lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\xff" * 2,
    "tags of a WebP": lambda: photo("WEBP", exif=full_of_tags()),
    "tags of a PNG": lambda: photo("PNG", exif=full_of_tags()),
    "tags of a JPEG": lambda: photo(exif=full_of_tags(60_000)),
}


@pytest.mark.parametrize("make", COSTLY.values(), ids=COSTLY)
def test_no_file_costs_more_than_a_moment_for_what_it_holds_beside_its_pixels(make):
    assert costs(make()) < 0.6


def bmp(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 8 bits with run-length coding."""
    palette = b"".join(bytes((level, 255 - level, 3, 0)) for level in range(256))
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def full_of_tags(num_bytes: int = 5_000_000) -> bytes:
    """EXIF whose tags all name the same bytes: each another copy, for whoever reads all of it."""
    count = min(65_535, num_bytes // 24)
    size = num_bytes - 10 - 12 * count
    tags = b"".join(struct.pack("<HHII", number, 7, size, 10) for number in range(count))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(num_bytes - 10 - len(tags))


def test_runs_are_decoded():
    pixels = read(bmp(80, 60, b"\x50\7\0\0" * 60 + b"\0\1")).pixels_HW3
    assert (pixels == (3, 248, 7)).all()


def test_as_many_chunks_as_an_encoder_writes_are_read():
    rows = b"".join(b"\0" + row.tobytes() for row in noise(80, 60))
    data = zlib.compress(rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 8, 2, 0, 0, 0))
    crumbs = b"".join(chunk(b"IDAT", data[at : at + 1]) for at in range(len(data)))
    assert len(data) < MAX_CHUNKS
    pixels = read(b"\x89PNG\r\n\x1a\n" + header + crumbs + chunk(b"IEND", b"")).pixels_HW3
    assert np.array_equal(pixels, noise(80, 60))


@pytest.mark.parametrize(("kind", "size"), [("WEBP", (4097, 4096)), ("PNG", (65_536, 1)), ("BMP", (1, 65_536))])
def test_what_would_hold_up_everyone_is_too_large(kind, size):
    with pytest.raises(PayloadTooLarge, match=f"too (many pixels|long); got {size[0]} x {size[1]}; expected"):
        read(encode(Image.new("L", size), kind) if kind != "WEBP" else webp_head(*size), 50_000_000)


def webp_head(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sizes


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_tells_the_size_before_anything_is_decoded(kind):
    data = photo(kind)
    assert kind_of(data) == kind
    assert (jpeg_pixels(data) if kind == "JPEG" else pixels_of(data)) == 80 * 60


def test_a_frame_beyond_its_screen_is_as_large_as_it_is():
    whole = photo("GIF")
    start = 13 + 3 * 256
    small = whole[:6] + b"\1\0\1\0" + whole[10:13] + whole[13:start] + b"!\xfe\3,,,\0" + whole[start:]
    assert pixels_of(small) == 80 * 60
    assert read(small).placement.width == 80


def test_a_png_says_once_how_large_it_is():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    data = photo("PNG")
    with pytest.raises(NotAnImage, match="the PNG image is broken; got a second header"):
        read(data[:8] + header + data[8:])


# --- No picture is silently incomplete -----------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"lossless": True}])
def test_a_file_cut_anywhere_is_refused_or_has_all_pixels(kind, options):
    image = Image.fromarray(noise(80, 60) // 2 + 100)
    whole = encode(image, kind, **options)
    expected = read(whole).pixels_HW3
    for percent in range(5, 100, 5):
        try:
            pixels = read(whole[: len(whole) * percent // 100]).pixels_HW3
        except NotAnImage as error:
            assert "broken" in str(error) or "no image we can read" in str(error)  # noqa: PT017 - either will do
        else:
            assert np.array_equal(pixels, expected), percent


def rows_of(num_rows: int, level: int = 200) -> bytes:
    return b"".join(b"\0" + bytes([level]) * 240 for _ in range(num_rows))


LACKING = {
    "no zlib stream": b"this is no zlib stream at all",
    "nothing": b"",
    "half of the rows": zlib.compress(rows_of(30)),
    "all rows but one": zlib.compress(rows_of(59)),
    "no rows": zlib.compress(b""),
    "a cut stream": zlib.compress(noise(80, 60).tobytes())[:-2000],
    "a stream that goes wrong": zlib.compress(rows_of(30))[:-4] + b"garbage" * 100,
    "an unknown filter": zlib.compress(rows_of(30) + b"\x09" + bytes(240) + rows_of(29)),
    "a wrong checksum": zlib.compress(rows_of(59) + b"\0")[:-4] + b"oops",
}


EXTRA = {"plain": b"", "broken exif": chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"), "text": chunk(b"tEXt", b"a\0b")}


@pytest.mark.parametrize("data", LACKING.values(), ids=LACKING)
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("extra", EXTRA.values(), ids=EXTRA)
def test_a_png_without_all_its_pixels_is_broken(data, interlaced, extra):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 80, 60, 8, 2, 0, 0, interlaced))
    with pytest.raises(NotAnImage, match=r"the PNG image is broken; got .*; expected"):
        read(b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "color", "bits"), [(8, 2, 24), (1, 0, 1), (4, 0, 4), (16, 0, 16), (16, 6, 64)])
@pytest.mark.parametrize("size", [(80, 60), (1, 1), (3, 2), (9, 5)])
def test_a_png_may_be_black(interlaced, depth, color, bits, size):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, step_x, step_y in passes if interlaced else [(0, 0, 1, 1)]:
        columns, lines = len(range(left, size[0], step_x)), len(range(top, size[1], step_y))
        rows += bytes(1 + (columns * bits + 7) // 8) * lines if columns else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, color, 0, 0, interlaced))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert (read(data).pixels_HW3 == (255 if color == 6 else 0)).all()


def test_a_frame_of_an_animation_never_stands_for_the_whole():
    first = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0)
    )
    data = png(80, 60, depth=8, color=2, rows=rows_of(60), extra=first)
    assert (read(data).pixels_HW3 == 200).all()


# --- Orientation, and the log ----------------------------------------------------------------


def upside_down(kind: str, order: str) -> bytes:
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, 3, 0, 0)
    return photo(kind, exif=b"Exif\0\0" + tiff)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_either_order_of_bytes_in_exif_is_read(kind, order):
    turned, upright = read(upside_down(kind, order)).pixels_HW3, read(photo(kind)).pixels_HW3
    assert np.array_equal(turned, upright[::-1, ::-1])


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
RAW_PROFILE = b"\nexif\n26\n" + (b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 3, 0, 0)).hex().encode()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("JPEG", with_segments(photo(), segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP))),
        ("WEBP", photo("WEBP", xmp=XMP)),
        ("PNG", photo("PNG")[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + photo("PNG")[33:]),
        ("PNG", photo("PNG")[:33] + chunk(b"tEXt", b"Raw profile type exif\0" + RAW_PROFILE) + photo("PNG")[33:]),
        ("PNG", photo("PNG")[:-12] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + photo("PNG")[-12:]),
    ],
)
def test_other_places_of_the_orientation_count_too(kind, data):
    assert np.array_equal(read(data).pixels_HW3, read(photo(kind)).pixels_HW3[::-1, ::-1])


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\1\x12"]
)
def test_exif_that_cannot_be_read_turns_nothing(exif):
    assert same(with_segments(photo(), segment(0xE1, b"Exif\0\0" + exif)), photo())


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_of_an_image_is_told_to_the_log(kind, caplog):
    exif = Image.Exif()
    exif[0x010E], exif[0x8825] = "a secret place", {1: "N", 2: (48.0, 8.0, 11.0)}
    options = {} if kind in ("BMP", "GIF") else {"exif": exif.tobytes()}
    data = photo(kind, **options)
    with caplog.at_level(logging.DEBUG):
        read(data)
    assert "secret" not in caplog.text
    assert "GPS" not in caplog.text
