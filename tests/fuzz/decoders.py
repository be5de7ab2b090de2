"""`python -m tests.fuzz.decoders TARGET CORPUS [libFuzzer options]`: atheris over one decoder, in a process of its own.

A decoder may refuse what it is given with a ServeError; anything else it raises ends the run with status 77.
"""

import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server", "PIL", "python_multipart"]):
    from server.backends.fake import fake_manifest
    from server.classify.body import read_body
    from server.dataplane import tensors
    from server.dataplane.signature import Signature
    from server.errors import ServeError
    from server.http.compression import decompress
    from server.images import decode
    from server.oip.infer_body import read_header_length, read_infer_body
    from server.settings import JsonLimits

from tests.fuzz import shapes

MAX_PIXELS = 1 << 16
MAX_FILES = 4
MAX_BYTES = 1 << 20
JSON_LIMITS = JsonLimits(max_values=4096, max_depth=16)
TYPES = ("multipart/form-data; boundary=b", "application/json", "image/png", "multipart/form-data; boundary=")
_MANIFEST = fake_manifest()
_SIGNATURE = Signature(_MANIFEST, 4)
_TARGET = _MANIFEST.preprocessing


def image(data: bytes) -> None:
    """Decode an image file."""
    decode(data, _TARGET, max_pixels=MAX_PIXELS)


def body(data: bytes) -> None:
    """Take a classify body apart; the first byte picks its content type."""
    if data:
        kind = TYPES[data[0] % len(TYPES)]
        for upload in read_body(data[1:], kind, max_files=MAX_FILES, json_limits=JSON_LIMITS).uploads:
            upload.to_bytes()


def tensor(data: bytes) -> None:
    """Read an infer message, whose first bytes say where its JSON ends, and check it against a signature."""
    length, _, message = data.partition(b";")
    header = length.decode("latin-1") if length else None
    inputs = read_infer_body(message, read_header_length(header, len(message)), JSON_LIMITS).inputs
    _SIGNATURE.arrange(inputs).decode(inputs)


def strings(data: bytes) -> None:
    """Take a BYTES tensor apart; the first byte says how many strings it claims."""
    if data:
        tensors.strings_from_raw("input", data[1:], [data[0]])


def gzipped(data: bytes) -> None:
    """Undo a Content-Encoding; the first byte picks it."""
    if data:
        decompress(data[1:], ("gzip", "deflate", "x")[data[0] % 3], max_bytes=MAX_BYTES)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (image, body, tensor, strings, gzipped)
}  # fmt: skip


def seeds(target: str) -> list[bytes]:
    """Return well-formed inputs of a target, for atheris to start from."""
    form = shapes.form([(b"file", shapes.PICTURES[0]), (b"max_tape", b"8")])
    document = b'{"inputs":[{"name":"encoded","datatype":"BYTES","shape":[1,1],"parameters":{"binary_data_size":%d}}]}'
    string = struct.pack("<I", 5) + b"hello"
    numbers = str([0] * 192).encode()
    plain = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,8,8,3],"data":' + numbers + b"}]}"
    binary = document % len(string)
    return {
        "image": [*shapes.PICTURES, shapes.picture("PNG", (8, 8)), shapes.picture("JPEG", (64, 48))],
        "body": [b"\x00" + form, b'\x01{"image":"aGVsbG8=","top_k":3}', b"\x01" + b'{"images":["", "x"]}', b"\x02x"],
        "tensor": [b";" + plain, str(len(binary)).encode() + b";" + binary + string, b"0;", b';{"inputs":[]}'],
        "strings": [b"\x01" + string, b"\x02" + string * 2, b"\x00"],
        "gzipped": [b"\x00" + data for data in (shapes.gzip.compress(b"hello" * 9), b"")] + [b"\x01x\x9cK\x04\x00"],
    }[target]


def write_seeds(target: str, corpus: Path) -> None:
    """Put a target's seeds where atheris footprints for them."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(data)


def main(arguments: Sequence[str]) -> None:
    """Fuzz one target; does not return."""
    name, corpus, *options = arguments
    write_seeds(name, Path(corpus))
    decoder = TARGETS[name]

    def run(data: bytes) -> None:
        try:
            decoder(data)
        except ServeError:
            return

    atheris.Setup([sys.argv[0], corpus, *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
