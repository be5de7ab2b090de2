"""Reads the body of an infer request: a JSON document, and after it the binary tensors that the document names.

`Inference-Header-Content-Length` says where the document ends. Without it all of the body is the document; with 0
there is no document, and all of the body is one image's pixels.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import orjson

from server.dataplane import MAX_DIMS, InputTensor, Plans, RequestedOutput, TensorSpec
from server.errors import BadRequest
from server.http.bounded_json import read_json
from server.settings import JsonLimits

Json = dict[str, Any]
_REPEATED_BYTES = 2048
_NUM_REPEATED = 256
"""So many parsed documents of up to `_REPEATED_BYTES` are kept: a program that repeats its requests sends the same
document with other pixels."""


@dataclass(slots=True, eq=False)
class InferDocument:
    """The parsed JSON document of a body.

    `is_binary` says which outputs are to come in binary form, `is_binary_default` is for the outputs that it lacks.
    `binary_sizes` has a size for each input whose tensor follows the document, and None for each other input.
    """

    id: str | None
    inputs: list[InputTensor]
    binary_sizes: list[Any]
    outputs: list[RequestedOutput] = field(default_factory=list)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_binary: Mapping[str, bool] = field(default_factory=dict)
    is_binary_default: bool = False
    plans: Plans = field(default_factory=Plans)

    def split_binary(self, binary: memoryview) -> list[InputTensor]:
        """Return the inputs, each with its share of the binary part, in order.

        Raises: BadRequest where the sizes do not add up.
        """
        inputs, offset = [], 0
        for tensor, size in zip(self.inputs, self.binary_sizes, strict=True):
            if size is None:
                inputs.append(tensor)
                continue
            if type(size) is not int or not 0 <= size <= len(binary) - offset:
                left = f"a number of bytes from 0 to {len(binary) - offset}, what the body still holds"
                raise BadRequest(f"binary_data_size of input {tensor.name}", size, left)
            inputs.append(InputTensor(tensor.name, tensor.datatype, tensor.shape, binary[offset : offset + size]))
            offset += size
        if offset != len(binary):
            surplus = f"{len(binary) - offset} bytes that belong to no input"
            raise BadRequest("body", surplus, "the sum of binary_data_size")
        return inputs


def read_header_length(header: str | None, num_bytes: int) -> int | None:
    """Return the length of the JSON document, None where the header is absent.

    Raises: BadRequest if it is no number, or more than there is.
    """
    if header is None:
        return None
    if not (header.isascii() and header.isdigit()) or len(header) > 18 or int(header) > num_bytes:
        raise BadRequest("Inference-Header-Content-Length", header, f"a number of bytes from 0 to {num_bytes}")
    return int(header)


class InferBody(NamedTuple):
    document: InferDocument
    inputs: list[InputTensor]


def read_infer_body(body: bytes, header_length: int | None, limits: JsonLimits) -> InferBody:
    """Read a body.

    Raises: BadRequest, naming the field that breaks the protocol; what `read_json` raises for JSON beyond its
    limits.
    """
    end = len(body) if header_length is None else header_length
    document = read_document(body[:end], limits)
    return InferBody(document, document.split_binary(memoryview(body)[end:]))


def read_raw(body: bytes, spec: TensorSpec) -> InferBody:
    """Return what a raw request holds: one sample of the model's direct input; all outputs come in binary form."""
    sample = InputTensor(spec.name, spec.datatype, [1, *spec.dims], body)
    return InferBody(InferDocument(None, [sample], [len(body)], is_binary_default=True), [sample])


def read_document(text: bytes, limits: JsonLimits) -> InferDocument:
    """Read the JSON document of a body.

    Raises: as `read_infer_body`.
    """
    return _read_repeated(text, limits) if len(text) <= _REPEATED_BYTES else _parse(text, limits)


def _parse(text: bytes, limits: JsonLimits) -> InferDocument:
    document = _read_json(text, limits)
    parameters = _object(document.get("parameters"), "parameters")
    is_binary_default = parameters.get("binary_data_output", False)
    if not isinstance(is_binary_default, bool):
        raise BadRequest("parameter binary_data_output", is_binary_default, "true or false")
    outputs = [_OutputRequest.of(fields) for fields in _objects(document.get("outputs", []), "outputs")]
    name = document.get("id")
    if name is not None and not isinstance(name, str):
        raise BadRequest("id", name, "a string")
    inputs, binary_sizes = _read_inputs(document)
    return InferDocument(
        id=name,
        inputs=inputs,
        binary_sizes=binary_sizes,
        outputs=[request.output for request in outputs],
        parameters=parameters,
        is_binary={request.output.name: request.is_binary for request in outputs if request.is_binary is not None},
        is_binary_default=is_binary_default,
    )


_read_repeated = lru_cache(_NUM_REPEATED)(_parse)


def _read_json(text: bytes, limits: JsonLimits) -> Json:
    try:
        document = read_json(text, limits)
    except orjson.JSONDecodeError as error:
        got = f"{error.msg} at character {error.pos} of {len(text)} bytes"
        raise BadRequest("JSON of the request", got, 'an object such as {"inputs": [...]}') from error
    if not isinstance(document, dict):
        raise BadRequest("JSON of the request", type(document).__name__, 'an object such as {"inputs": [...]}')
    if "inputs" not in document:
        raise BadRequest("JSON of the request", "no inputs", 'an object such as {"inputs": [...]}')
    return document


def _read_inputs(document: Json) -> tuple[list[InputTensor], list[Any]]:
    """Return the inputs, each with its values or with the size of its share of the binary part."""
    inputs: list[InputTensor] = []
    sizes: list[Any] = []
    for fields in _objects(document["inputs"], "inputs"):
        name, parameters = _text(fields, "name", "inputs"), _object(fields.get("parameters"), "parameters of an input")
        datatype, shape = _text(fields, "datatype", f"input {name}"), _shape(fields.get("shape"), name)
        _refuse_shared_memory(parameters, f"input {name}")
        if "binary_data_size" not in parameters:
            inputs.append(InputTensor(name, datatype, shape, values=_values(fields, name, len(shape))))
            sizes.append(None)
            continue
        if "data" in fields:
            raise BadRequest(f"input {name}", "data and binary_data_size", "one of the two")
        size = parameters["binary_data_size"]
        inputs.append(InputTensor(name, datatype, shape))
        sizes.append("none" if size is None else size)
    return inputs, sizes


def _values(fields: Json, name: str, num_dims: int) -> Sequence[Any]:
    """Return the elements of `data`, nested or flat, as one flat list."""
    values = fields.get("data")
    if not isinstance(values, list):
        raise BadRequest(f"data of input {name}", "none" if values is None else values, "a list, or binary_data_size")
    for _ in range(num_dims - 1):
        if not values or not isinstance(values[0], list):
            break
        if not all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
            raise BadRequest(f"data of input {name}", "rows of different lengths", "rows of one length")
        values = list(chain.from_iterable(values))
    return values


def _shape(shape: object, name: str) -> list[int]:
    if not isinstance(shape, list) or len(shape) > MAX_DIMS or not all(type(size) is int for size in shape):
        got = "none" if shape is None else shape
        raise BadRequest(f"shape of input {name}", got, f"a list of at most {MAX_DIMS} integers")
    return shape


@dataclass(frozen=True, slots=True)
class _OutputRequest:
    output: RequestedOutput
    is_binary: bool | None

    @classmethod
    def of(cls, fields: Json) -> "_OutputRequest":
        name, parameters = (
            _text(fields, "name", "outputs"),
            _object(fields.get("parameters"), "parameters of an output"),
        )
        _refuse_shared_memory(parameters, f"output {name}")
        num_classes, is_binary = parameters.get("classification", 0), parameters.get("binary_data")
        if type(num_classes) is not int or num_classes < 0:
            raise BadRequest(f"classification of output {name}", num_classes, "a number of classes")
        if is_binary is not None and not isinstance(is_binary, bool):
            raise BadRequest(f"binary_data of output {name}", is_binary, "true or false")
        return cls(RequestedOutput(name, num_classes), is_binary)


def _refuse_shared_memory(parameters: Iterable[str], what: str) -> None:
    for name in parameters:
        if name.startswith("shared_memory"):
            raise BadRequest(f"parameter of {what}", name, "tensors in the body: there is no shared memory")


def _object(value: object, what: str) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(what, value, "an object")
    return value


def _objects(value: object, what: str) -> Iterator[Json]:
    if not isinstance(value, list):
        raise BadRequest(what, value, "a list of objects")
    for item in value:
        if not isinstance(item, dict):
            raise BadRequest(f"item of {what}", item, "an object")
        yield item


def _text(fields: Json, name: str, what: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} of {what}", "none" if value is None else value, "a string")
    return value
