"""Well-formed and hostile pieces of requests, for Hypothesis to combine and then to break."""

import base64
import gzip
import io
import struct
from collections.abc import Sequence

import orjson
from hypothesis import strategies as st
from PIL import Image

METHODS = (*["POST"] * 8, *["GET"] * 6, "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "get", "FUZZ")
OIP_PATHS = (
    "/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/{model}", "/v2/models/{model}/ready",
    "/v2/models/{model}/config", "/v2/models/{model}/stats", "/v2/models/stats", "/v2/models/{model}/infer",
    "/v2/models/{model}/infer", "/v2/models/{model}/versions/1/infer", "/v2/repository/index",
    "/v2/repository/models/{model}/load",
)  # fmt: skip
NAMES = (
    "model", "version", "max_tape", "max_flops", "min_accuracy", "deadline_ms", "priority", "top_k", "explain", "x",
)  # fmt: skip
VALUES = (
    "0", "-1", "1", "8", "16", "1e309", "NaN", "1e-9", "9" * 400, "true", "high", "low", "", "%20", "%00", "%ff%fe",
    "%C3%A9", "None", "{}", "[]", "1_000", "0x10", "%D9%A1", "../../etc/passwd", "%2e%2e%2f", "'%20OR%201", "a" * 5000,
)  # fmt: skip
HEADERS = (
    "Content-Type", "Content-Encoding", "Transfer-Encoding", "Expect", "Connection", "Accept", "Accept-Encoding",
    "Inference-Header-Content-Length", "X-Max-Tape", "X-Max-Flops", "X-Deadline-Ms", "X-Request-Id", "Upgrade",
    "Cookie", "Range", "Authorization", "Content-Length", "Host", "Origin", "X-Priority",
)  # fmt: skip
HEADER_VALUES = (
    "application/json", "multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=",
    "image/png", "gzip", "deflate", "br", "gzip, gzip", "chunked", "chunked, chunked", "identity", "100-continue",
    "close", "keep-alive", "Upgrade, HTTP2-Settings", "h2c", "websocket", "text/html;q=0", "*/*", "gzip;q=x",
    "bytes=0-1", "Bearer x", "0", "-1", "18446744073709551616", "1e3", "\t", "\xff", "a" * 9000,
)  # fmt: skip


def picture(kind: str, size: tuple[int, int] = (9, 7), level: int = 120) -> bytes:
    """Return a small image file of a format."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, 255 - level, 7)).save(buffer, kind)
    return buffer.getvalue()


PICTURES = tuple(picture(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP"))

_part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: image/png\r\n\r\n%s\r\n'


def form(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a multipart form with boundary `b`."""
    body = b"".join(_part % (name, b'; filename="f.png"' if name == b"file" else b"", data) for name, data in parts)
    return body + b"--b--\r\n"


def oip_document(shape: Sequence[int], data: object, **fields: object) -> dict[str, object]:
    """Return an infer request in JSON."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(shape), "data": data, **fields}
    return {"inputs": [tensor]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
deep = st.integers(1, 20_000).map(lambda depth: b'{"inputs":' + b"[" * depth + b"]" * depth + b"}")
_printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
words = st.sampled_from(VALUES) | _printable
headings = st.sampled_from(HEADER_VALUES) | _printable
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 8, 32, 96, 160, -1, 1 << 31, 1 << 62]), max_size=9)


def _dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return repr(value).encode("utf-8", "replace")


_images = st.sampled_from(PICTURES)
_base64 = st.builds(lambda data: _dumps({"image": base64.b64encode(data).decode()}), _images)
_forms = st.lists(st.tuples(st.sampled_from([b"file", b"max_tape", b"top_k", b""]), _images), max_size=4).map(form)
_documents = st.builds(
    lambda shape, data, extra: _dumps({**oip_document(shape, data), **extra}),
    shapes,
    st.lists(st.integers(-1, 256), max_size=64) | json_values,
    st.dictionaries(st.sampled_from(["id", "outputs", "parameters", "inputs"]), json_values, max_size=2),
)
_strings = st.lists(_images, max_size=3).map(lambda files: b"".join(struct.pack("<I", len(f)) + f for f in files))
_bombs = st.sampled_from([gzip.compress(b"0" * (1 << 20)), gzip.compress(b"[" * 100_000), gzip.compress(b"")[:-3]])

bodies = st.one_of(
    st.just(b""), st.binary(max_size=200), _images, _base64, _forms, _documents, _strings, _bombs, deep,
    json_values.map(_dumps),
)  # fmt: skip


def _break(data: bytes, kind: str, at: float, junk: bytes) -> bytes:
    place = int(at * len(data))
    if kind == "cut":
        return data[:place]
    if kind == "insert":
        return data[:place] + junk + data[place:]
    if kind == "replace":
        return data[:place] + junk + data[place + len(junk) :]
    if kind == "repeat":
        return data[:place] + data[max(0, place - 40) :]
    return data


def broken(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return whole cases, and cut, spoilt, lengthened and repeated ones."""
    kinds = st.sampled_from(["whole", "whole", "cut", "insert", "replace", "repeat"])
    return st.builds(_break, whole, kinds, st.floats(0, 1), st.binary(min_size=1, max_size=6))
