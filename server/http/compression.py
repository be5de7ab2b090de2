"""gzip and deflate in both directions. Decompression stops at the server's limit of bytes."""

import gzip
import zlib

from server.errors import BadRequest, PayloadTooLarge

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""`deflate` is a zlib stream, as RFC 9110 has it."""
_FAST = 1


def is_encoded(coding: str | None) -> bool:
    """Say whether a Content-Encoding header means that the body has to be decompressed."""
    return coding is not None and coding.strip().lower() not in {"", "identity"}


def decompress(body: bytes, coding: str, *, max_bytes: int) -> bytes:
    """Decompress a body that has this Content-Encoding.

    Raises: BadRequest for an unknown coding or broken bytes; PayloadTooLarge as soon as the limit is passed.
    """
    name = coding.strip().lower()
    if name not in _WINDOW_BITS:
        raise BadRequest("Content-Encoding", coding, "gzip, deflate or identity")
    stream = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        plain = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise BadRequest(f"the {name} body is broken", str(error), f"a complete {name} stream") from error
    if len(plain) > max_bytes:
        got = f"more than {max_bytes} bytes when decompressed"
        raise PayloadTooLarge("the request body is too large", got, f"at most {max_bytes} bytes")
    if not stream.eof:
        raise BadRequest(f"the {name} body is broken", "its end too early", f"a complete {name} stream")
    if stream.unused_data:
        raise BadRequest(f"the {name} body is broken", f"{len(stream.unused_data)} bytes after its end", "one stream")
    return plain


def choose_coding(accepted: str | None) -> str | None:
    """Return the coding that an Accept-Encoding header prefers, gzip among equals; None for no compression."""
    if not accepted:
        return None
    weights = dict(map(_read_weight, accepted.lower().split(",")))
    anything = weights.get("*", 0.0)
    weight, coding = max((weights.get(name, anything), name) for name in ("deflate", "gzip"))
    return coding if weight > 0 else None


def compress(body: bytes, coding: str) -> bytes:
    """Compress a body with a coding of `choose_coding`, at the fastest level."""
    return gzip.compress(body, _FAST, mtime=0) if coding == "gzip" else zlib.compress(body, _FAST)


def _read_weight(item: str) -> tuple[str, float]:
    """Read `gzip;q=0.5`; a weight that is no number counts as none."""
    name, _, rest = item.partition(";")
    _, _, weight = rest.partition("q=")
    try:
        return name.strip(), float(weight) if weight else 1.0
    except ValueError:
        return name.strip(), 0.0
