"""Every upload becomes the expected pixels, or one clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from server.errors import BadRequest, NotAnImage, PayloadTooLarge, ServeError
from server.images import Picture, decode
from server.images.limits import PixelBudget
from server.models.manifest import Preprocessing

SQUASH = Preprocessing(height=32, width=32, resize="squash")
CROP = Preprocessing(height=32, width=32, resize="center_crop")
MAX_PIXELS = 1_000_000


def read(data: bytes, target: Preprocessing = SQUASH) -> Picture:
    return decode(data, target, max_pixels=MAX_PIXELS)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(width: int, height: int) -> np.ndarray:
    """A picture with every corner different: red grows rightwards, green downwards."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([columns, rows, np.full_like(rows, 96)], axis=-1).astype(np.uint8)


def chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def png(width: int, height: int, *, depth: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- Formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("target", [SQUASH, CROP])
def test_an_image_of_the_models_size_passes_through_untouched(kind, target):
    pixels = noise(32, 32)
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = read(encode(Image.fromarray(pixels), kind, **options), target)
    assert np.array_equal(picture.pixels_HW3, pixels)
    assert picture.pixels_HW3.dtype == np.uint8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_the_five_formats_are_read_alike(kind):
    pixels = read(encode(Image.fromarray(smooth(96, 64)), kind)).pixels_HW3
    expected = np.asarray(Image.fromarray(smooth(96, 64)).resize((32, 32), Image.Resampling.BICUBIC))
    assert pixels.shape == (32, 32, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 12  # a GIF has 256 colours


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA", "PCX", "AVIF"])
def test_other_formats_are_refused_even_where_pillow_reads_them(kind):
    with pytest.raises(NotAnImage, match="expected a JPEG, PNG, WebP, BMP or GIF"):
        read(encode(Image.fromarray(noise(16, 16)), kind))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_read(kind):
    red, blue = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = encode(red, kind, save_all=True, append_images=[blue], duration=100)
    assert np.abs(read(data).pixels_HW3.astype(int) - [255, 0, 0]).max() <= 3


# --- Geometry ------------------------------------------------------------------------------


def test_squash_uses_the_whole_image():
    picture = read(encode(Image.fromarray(smooth(96, 48))))
    assert picture.placement.to_upload((0, 0, 32, 32)) == (0, 0, 96, 48)
    assert picture.pixels_HW3[:, 0, 0].max() < 16
    assert picture.pixels_HW3[:, -1, 0].min() > 240


@pytest.mark.parametrize(("size", "box"), [((96, 48), (24, 0, 72, 48)), ((48, 96), (0, 24, 48, 72))])
def test_center_crop_keeps_the_middle(size, box):
    picture = read(encode(Image.fromarray(smooth(*size))), CROP)
    assert picture.placement.to_upload((0, 0, 32, 32)) == pytest.approx(box)
    expected = Image.fromarray(smooth(*size)).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(picture.pixels_HW3.astype(int) - np.asarray(expected)).mean() < 1.5


@pytest.mark.parametrize("target", [SQUASH, CROP, Preprocessing(height=24, width=40, resize="center_crop")])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation, target):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of Image.Transpose that store it so
    upright = Image.fromarray(smooth(64, 40))
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read(encode(stored, exif=exif.tobytes()), target)
    expected = read(encode(upright), target)
    assert np.abs(picture.pixels_HW3.astype(int) - expected.pixels_HW3).max() <= 1
    assert picture.placement == expected.placement


def test_a_big_jpeg_is_drafted_without_a_visible_difference():
    array = smooth(1000, 800)
    array[300:500, 200:700] = 255 - array[300:500, 200:700]
    data = encode(Image.fromarray(array), "JPEG", quality=95)
    full = Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(read(data).pixels_HW3.astype(int) - np.asarray(full)).mean() < 1.0


# --- Modes ---------------------------------------------------------------------------------


def test_alpha_is_composited_on_white():
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, :16] = (255, 0, 0, 255)
    rgba[:, 16:] = (0, 0, 0, 0)
    pixels = read(encode(Image.fromarray(rgba))).pixels_HW3
    assert (pixels[:, :16] == (255, 0, 0)).all()
    assert (pixels[:, 16:] == 255).all()


def test_half_transparent_black_on_white_is_grey():
    pixels = read(encode(Image.new("RGBA", (32, 32), (0, 0, 0, 128)))).pixels_HW3
    assert np.abs(pixels.astype(int) - 127).max() <= 1


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (32, 32), 1)
    image.putpalette([0, 255, 0, 9, 9, 9])
    assert (read(encode(image, transparency=1)).pixels_HW3 == 255).all()
    assert (read(encode(image)).pixels_HW3 == 9).all()


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("1", 0, (0, 0, 0)),
        ("P", 0, (0, 0, 0)),
    ],
)
def test_grey_one_bit_and_palette(mode, color, expected):
    assert (read(encode(Image.new(mode, (32, 32), color))).pixels_HW3 == expected).all()


def test_cmyk_jpeg_has_its_colours():
    image = Image.new("CMYK", (64, 64), (0, 255, 255, 0))  # red ink on white paper
    pixels = read(encode(image, "JPEG", quality=95)).pixels_HW3.astype(int)
    assert np.abs(pixels - (255, 0, 0)).max() <= 12


def test_16_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 32 * 32).astype(">u2").reshape(32, 32)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    pixels = read(png(32, 32, depth=16, color=0, rows=rows)).pixels_HW3
    assert np.array_equal(pixels[..., 0], np.round(values / 257).astype(np.uint8))
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_16_bit_grey_transparent_level_is_white():
    values = np.full((32, 32), 500, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    data = png(32, 32, depth=16, color=0, rows=rows, extra=chunk(b"tRNS", struct.pack(">H", 500)))
    assert (read(data).pixels_HW3 == 255).all()


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (6, 4)])
def test_16_bit_colour_is_scaled_not_clipped(color, channels):
    values = np.full((32, 32, channels), 65535, ">u2")
    values[..., :3] = (65535, 32768, 256)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    pixels = read(png(32, 32, depth=16, color=color, rows=rows)).pixels_HW3.astype(int)
    assert np.abs(pixels - (255, 128, 1)).max() <= 1


# --- Bad input -----------------------------------------------------------------------------


def test_no_bytes():
    with pytest.raises(BadRequest, match="the image is empty; got 0 bytes; expected a JPEG"):
        read(b"")


@pytest.mark.parametrize(
    "data", [b"\0", b"hello", b"<svg/>", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF"]
)
def test_bytes_that_are_no_image(data):
    with pytest.raises(NotAnImage, match="no image we can read"):
        read(data)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "got HEIC;"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "got AVIF;"),
        (b"%PDF-1.7\n%\xe2\xe3", "got PDF;"),
        (b"II*\0\x08\0\0\0", "got TIFF;"),
        (b"<!DOCTYPE html><html></html>", "got HTML;"),
        (b"photo.jpg", "got the text 'photo.jpg';"),
        (b"x" * 81, "got 81 bytes that begin with b'xxxxxxxxxxxx';"),
        (b"\0\1\2", "got 3 bytes that begin with b'\\x00\\x01\\x02';"),
    ],
)
def test_what_came_instead_of_an_image_is_named(data, named):
    with pytest.raises(NotAnImage, match="expected a JPEG, PNG, WebP, BMP or GIF image") as raised:
        read(data)
    assert named in str(raised.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(kind, share):
    data = encode(Image.fromarray(noise(80, 60)), kind)
    with pytest.raises(NotAnImage):
        read(data[: int(len(data) * share)])


def test_a_decompression_bomb_is_refused_from_its_header():
    bomb = png(40_000, 40_000, depth=8, color=0, rows=b"\0")
    with pytest.raises(PayloadTooLarge, match="got 40000 x 40000; expected at most 1000000"):
        read(bomb)


def test_a_jpeg_that_passes_over_its_pixels_again_and_again_is_refused():
    whole = encode(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    assert 1 < whole.count(b"\xff\xda") < 20
    scan = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    assert read(whole[:-2] + 80 * scan + whole[-2:])
    with pytest.raises(PayloadTooLarge, match=r"scans of the JPEG image; got [0-9]+; expected at most 100"):
        read(whole[:-2] + 1000 * scan + whole[-2:])


def test_the_images_of_a_request_share_a_budget():
    budget = PixelBudget(1000)
    small = encode(Image.new("RGB", (20, 20)))
    for _ in range(2):
        decode(small, SQUASH, max_pixels=MAX_PIXELS, budget=budget)
    with pytest.raises(PayloadTooLarge, match="pixels of the request's images; got 1200; expected at most 1000"):
        decode(small, SQUASH, max_pixels=MAX_PIXELS, budget=budget)


def test_a_compressed_text_bomb_is_refused():
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 50_000_000))
    with pytest.raises(NotAnImage):
        read(png(8, 8, depth=8, color=0, rows=b"\0" * 72, extra=text))


def test_a_zero_sized_image_is_refused():
    with pytest.raises(NotAnImage):
        read(png(0, 5, depth=8, color=0, rows=b""))


def test_an_exif_orientation_out_of_range_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert read(encode(Image.fromarray(noise(32, 32)), exif=exif.tobytes())).pixels_HW3.shape == (32, 32, 3)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_raise_anything_else(data):
    with pytest.raises(ServeError):
        read(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # what Pillow says of broken files; the server ignores it too
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_flipped_bytes_give_a_picture_or_a_clear_error(kind, seed):
    generator = np.random.default_rng(seed)
    data = bytearray(encode(Image.fromarray(smooth(24, 20)), kind))
    for position in generator.integers(0, len(data), 6):
        data[position] = generator.integers(0, 256)
    try:
        shape = read(bytes(data)).pixels_HW3.shape
    except ServeError:
        return
    assert shape == (32, 32, 3)
