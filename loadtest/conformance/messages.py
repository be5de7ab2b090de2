"""Infer requests and answers over HTTP: a JSON document, followed by the binary tensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from loadtest.conformance.expect import Failure, expect, expect_equal
from loadtest.conformance.http import Response
from loadtest.conformance.tensors import BYTES, Tensor, from_raw

Json = dict[str, Any]
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Message:
    """A body and the headers that belong to it."""

    body: bytes
    headers: Mapping[str, str]


def json_input(tensor: Tensor, *, nested: bool = False) -> Json:
    """Return an input with its data in JSON."""
    data = tensor.to_nested() if nested else tensor.to_values()
    return {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "data": data}


def binary_input(tensor: Tensor) -> Json:
    """Return an input whose data comes behind the document."""
    size = {"binary_data_size": len(tensor.to_raw())}
    return {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "parameters": size}


def json_message(inputs: Sequence[Tensor], **members: object) -> Message:
    """Return a request all in JSON."""
    return Message(encode({"inputs": [json_input(tensor) for tensor in inputs], **members}), {})


def binary_message(inputs: Sequence[Tensor], **members: object) -> Message:
    """Return a request whose inputs are binary; so are its outputs, as a client asks that lists none."""
    members = {"parameters": {"binary_data_output": True}, **members}
    document = encode({"inputs": [binary_input(tensor) for tensor in inputs], **members})
    return with_binary(document, [tensor.to_raw() for tensor in inputs])


def with_binary(document: bytes, blobs: Sequence[bytes]) -> Message:
    """Put binary data behind a document."""
    return Message(b"".join([document, *blobs]), {HEADER_LENGTH: str(len(document))})


def encode(document: object) -> bytes:
    """Return a document as JSON in UTF-8."""
    return json.dumps(document, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer taken apart, its layout checked."""

    document: Json
    outputs: Mapping[str, Tensor]
    binary: tuple[str, ...]
    """Names of the outputs that came binary, in the order of their data."""


def read_answer(response: Response) -> Answer:
    """Take an answer apart.

    Raises: Failure if it is none, or its parts do not fit each other.
    """
    expect(response.status == 200, f"status {response.status} {response.body[:120]!r}", "status 200")
    document, rest = split(response)
    listed: Any = document.get("outputs")
    expect(isinstance(listed, list), document, "an object with a list of outputs")
    outputs, binary = {}, []
    for fields in listed:
        tensor, rest, is_binary = _read_output(fields, rest)
        outputs[tensor.name] = tensor
        binary += [tensor.name] if is_binary else []
    expect(not rest, f"{len(rest)} bytes behind the last output", "as many as binary_data_size say")
    return Answer(document, outputs, tuple(binary))


def split(response: Response) -> tuple[Json, bytes]:
    """Return the JSON document of a reply, and what follows it."""
    length = response.header(HEADER_LENGTH)
    if length is None:
        return _object(response.body), b""
    expect(length.isdigit() and int(length) <= len(response.body), f"{HEADER_LENGTH} {length}", "a part of the body")
    return _object(response.body[: int(length)]), response.body[int(length) :]


def _object(text: bytes) -> Json:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Failure(f"got {text[:120]!r}; expected a JSON document ending there") from error
    expect(isinstance(document, dict), document, "a JSON object")
    return dict(document)


def _read_output(fields: Json, rest: bytes) -> tuple[Tensor, bytes, bool]:
    missing = {"name", "datatype", "shape"} - set(fields)
    expect(not missing, f"an output without {', '.join(sorted(missing))}", "name, datatype and shape")
    name, datatype, shape = fields["name"], fields["datatype"], fields["shape"]
    size = (fields.get("parameters") or {}).get("binary_data_size")
    if size is None:
        return _from_values(name, datatype, shape, fields.get("data")), rest, False
    expect(type(size) is int and 0 <= size <= len(rest), f"binary_data_size {size!r}", f"0 to {len(rest)}")
    return from_raw(name, datatype, shape, rest[:size]), rest[size:], True


def _from_values(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    expect(isinstance(data, list), f"output {name} with data {data!r}", "a list, or binary_data_size")
    flat = data
    while flat and isinstance(flat[0], list):
        flat = [value for row in flat for value in row]
    expect_equal(len(flat), prod(shape), f"elements of output {name}:")
    items = [value.encode() for value in flat] if datatype == BYTES else flat
    return Tensor(name, datatype, tuple(shape), items)
