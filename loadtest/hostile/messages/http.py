"""Messages over HTTP: many names, numbers and levels in heads, queries, JSON, forms and binary tensors."""

import gzip
import itertools
import string
from collections.abc import Callable

from loadtest.hostile.http import RawRequest, post
from loadtest.hostile.table import MessageContext, add

JSON, FORM, PNG = "application/json", "multipart/form-data; boundary=b", "image/png"
LARGEST = 20 * 1024 * 1024
LARGEST_JSON = 12_500_000
"""About the largest document that is taken, and what is parsed on the event loop."""
QUICK = 250_000

Make = Callable[[MessageContext], RawRequest]


def classify(body: bytes, kind: str, *headers: str, query: str = "") -> Make:
    """Return what asks `/v1/classify` with a body."""
    return lambda context: post(f"/v1/classify{query}", body, kind, context.key, *headers)


def infer(body: bytes, *headers: str, kind: str = JSON) -> Make:
    """Return what asks the family over the Open Inference Protocol."""
    return lambda context: post(f"/v2/models/{context.family}/infer", body, kind, context.key, *headers)


def asked(query: str) -> Make:
    """Return what asks with a query."""
    return classify(b"x", PNG, query="?" + query)


def got(path: str, *headers: str) -> Make:
    """Return what gets a path."""
    return lambda context: post(path, b"", "text/plain", context.key, *headers, method="GET")


def filled(start: bytes, filling: bytes, end: bytes, size: int) -> bytes:
    """Return a document of a size."""
    return start + filling * ((size - len(start) - len(end)) // len(filling)) + end


def part(data: bytes, disposition: bytes = b'form-data; name="file"; filename="f"', head: bytes = b"") -> bytes:
    """Return a part of a form."""
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n" + head + b"\r\n" + data + b"\r\n"


def form(*parts: bytes) -> Make:
    """Return what sends a form of these parts."""
    return classify(b"".join(parts) + b"--b--\r\n", FORM)


def _twice() -> str:
    """Return the issue's own: 2,756 names of one and two letters, those of two letters twice."""
    letters = string.ascii_letters
    two = [first + second for first, second in itertools.product(letters, letters)]
    return "=1&".join([*letters, *two, *two]) + "=1"


_KEYS = b"{" + b",".join(b'"%x":1' % index for index in range(20_000)) + b"}"
_NAMED = b'{"inputs":[{"name":"%s","datatype":"UINT8","shape":[1,1],"data":[1]}]}'
add(
    "HTTP query and head",
    **{
        "2,756 names, most of them twice": asked(_twice()),
        "8,000 empty parameters": asked("&" * 30_000),
        "10,000 names": asked("&".join(f"{index:x}" for index in range(5000))),
        "percent signs": asked("%41" * 10_000),
        "a long number": asked("max_tape=" + "9" * 30_000),
        "a long value": asked("model=" + "a" * 30_000),
        "a path of parts": got("/v2/models/" + "a/" * 15_000),
        "a path of percent signs": got("/v1/models/" + "%2f" * 10_000),
        "a cookie of pairs": got("/v1/models", "Cookie: " + "a=b;" * 7000),
        "5,000 headers": got("/v1/models", *["a:b"] * 5000),
        "codings": infer(_NAMED % b"image", "Accept-Encoding: " + "a," * 14_000),
        "a content type of semicolons": classify(b"x", "multipart/form-data" + ";" * 30_000),
        "a content type of quotes": classify(b"x", 'multipart/form-data;a="' + ";" * 30_000),
        "a content type of names": classify(b"x", "multipart/form-data" + ";a" * 15_000),
        "a key of 30 kB": got("/v1/models", "Authorization: Bearer " + "a" * 30_000),
        "usage of many": got("/v1/usage?" + "tenant=a&" * 3400),
        "pipelined": lambda _: RawRequest(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000),
        "tiny chunks": lambda context: RawRequest(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-API-Key: %s\r\n\r\n"
            % context.key.encode()
            + b"1\r\nx\r\n" * 300_000
            + b"0\r\n\r\n"
        ),
    },
)
add(
    "HTTP /v2 infer",
    **{
        "lists": infer(filled(b'{"inputs":[', b"[],", b"[]]}", LARGEST)),
        "lists, on the loop": infer(filled(b'{"inputs":[', b"[],", b"[]]}", QUICK)),
        "empty inputs": infer(filled(b'{"inputs":[', b"{},", b"{}]}", QUICK)),
        "inputs": infer(b'{"inputs":[' + b'{"name":"a","datatype":"b","shape":[],"data":[]},' * 4000 + b"{}]}"),
        "outputs": infer(b'{"inputs":[],"outputs":[' + b'{"name":"logits"},' * 9000 + b'{"name":"logits"}]}'),
        "parameters": infer(b'{"inputs":[],"parameters":' + _KEYS + b"}"),
        "inputs that are an object": infer(b'{"inputs":' + _KEYS + b"}"),
        "inputs that are numbers": infer(filled(b'{"inputs":[{"name":["x",', b"127,", b"1]}]}", 1_900_000)),
        "a name that is floats": infer(filled(b'{"id":[', b"1e-7,", b'1],"inputs":[]}', 2_000_000)),
        "text to be shown": infer(filled(b'{"id":["', b"\\u0001", b'"],"inputs":[]}', LARGEST_JSON)),
        "a long name": infer(_NAMED % (b"a" * (LARGEST_JSON - 200))),
        "large numbers": infer(filled(b'{"inputs":[', b"9" * 400 + b",", b"1]}", LARGEST_JSON)),
        "depth": infer(b'{"inputs":' + b"[" * 60_000 + b"]" * 60_000 + b"}"),
        "the same key": infer(filled(b"{", b'"inputs":[],', b'"a":1}', QUICK)),
        "escapes": infer(filled(b'{"id":"', b"\\u0041", b'"}', LARGEST_JSON)),
        "gzip bomb": infer(gzip.compress(bytes(64 << 20)), "Content-Encoding: gzip"),
        "a binary size": infer(_NAMED % b"image", "Inference-Header-Content-Length: " + "9" * 30_000),
        "binary strings": infer(
            (head := b'{"inputs":[{"name":"encoded","datatype":"BYTES","shape":[64,1],'
             b'"parameters":{"binary_data_size":20000000}}]}') + bytes(20_000_000),
            f"Inference-Header-Content-Length: {len(head)}",
        ),
        "index": lambda context: post("/v2/repository/index", _KEYS, JSON, context.key),
        "a wrong index": lambda context: post(
            "/v2/repository/index", b'{"ready":%s}' % _KEYS[:9000], JSON, context.key
        ),
    },
)  # fmt: skip
add(
    "HTTP /v1 classify",
    **{
        "fields": classify(b'{"image":"","a":' + _KEYS + b"}", JSON),
        "images that are an object": classify(b'{"images":' + _KEYS + b"}", JSON),
        "images that are numbers": classify(filled(b'{"images":[', b"127,", b"1]}", 1_900_000), JSON),
        "a value that is a list": classify(filled(b'{"image":"","top_k":[', b"127,", b"1]}", 1_900_000), JSON),
        "a file name of semicolons": form(part(b"x", b"form-data" + b";" * QUICK)),
        "a file name of quotes": form(part(b"x", b'form-data;a="' + b";" * QUICK)),
        "a large file name of names": form(part(b"x", b"form-data" + b";a" * 5_000_000)),
        "parts": form(part(b"x") * 50_000),
        "headers of a part": form(part(b"x", head=b"a: b\r\n" * 40_000)),
        "boundaries": form(part(b"\r\n--" * (LARGEST // 4 - 100))),
        "preamble": classify(b"\r\n" * 120_000 + part(b"x") + b"--b--\r\n", FORM),
        "a part without end": classify(filled(b"--b\r\n", b"a: b\r\n", b"", LARGEST), FORM),
    },
)
