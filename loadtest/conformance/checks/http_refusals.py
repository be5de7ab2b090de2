"""Infer requests that no server can answer: each is refused with 4xx and an error, and the server still answers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from loadtest.conformance.expect import Skip, expect
from loadtest.conformance.messages import encode, json_input
from loadtest.conformance.model import Json
from loadtest.conformance.registry import MUST, TRITON, Check, Level, add, check
from loadtest.conformance.target import Target, expect_refused

SOURCE = "OIP REST, Inference Request; Inference Response JSON Error Object"
SHAPES = "OIP REST, Tensor Data: a shape and as many elements"
INTEGERS = {f"{sign}{bits}" for sign in ("INT", "UINT") for bits in (8, 16, 32, 64)}
Fault = Callable[[Target, Json], object]
"""Spoils a sound document, in place or by returning what is to be sent instead."""


def first(document: Json) -> Json:
    """Return the first input."""
    inputs: list[Json] = document["inputs"]
    return inputs[0]


def member(name: str, value: object) -> Fault:
    """Set a member of the document."""
    return lambda _, document: document.__setitem__(name, value)


def of_input(**members: object) -> Fault:
    """Set members of the first input."""
    return lambda _, document: first(document).update(members)


def dropped(name: str) -> Fault:
    """Leave out a member of the first input."""
    return lambda _, document: first(document).pop(name) and None


def shape(change: Callable[[list[int]], object]) -> Fault:
    """Change the shape of the first input."""
    return lambda _, document: first(document).update(shape=change(first(document)["shape"]))


def data(change: Callable[[list[Any]], object]) -> Fault:
    """Change the data of the first input."""
    return lambda _, document: first(document).update(data=change(first(document)["data"]))


def element(value: object) -> Fault:
    """Put a value that fits no number in the place of the first element of a numeric input."""

    def spoil(target: Target, document: Json) -> None:
        document["inputs"][target.model.numeric()]["data"][0] = value

    return spoil


def integer_element(value: object) -> Fault:
    """Put a value that fits no integer of the input's width in the place of its first element."""

    def spoil(target: Target, document: Json) -> None:
        fields = document["inputs"][target.model.numeric()]
        if fields["datatype"] not in INTEGERS:
            raise Skip(f"input {fields['name']} is {fields['datatype']}")
        fields["data"][0] = value

    return spoil


def other_datatype(target: Target, document: Json) -> None:
    """Give the first input another datatype of the protocol."""
    first(document)["datatype"] = "FP64" if target.model.required[0].datatype != "FP64" else "INT64"


def twice(_: Target, document: Json) -> None:
    """Give the first input twice."""
    document["inputs"].append(first(document))


def surplus_input(_: Target, document: Json) -> None:
    """Give an input that the model does not have."""
    document["inputs"].append({"name": "no_such_input", "shape": [1, 1], "datatype": "FP32", "data": [0.5]})


def ragged(_: Target, document: Json) -> None:
    """Nest the data in rows of different lengths."""
    values = first(document)["data"]
    first(document)["data"] = [values[:1], *([values[1:]] if len(values) > 1 else []), []]


def too_many(target: Target, document: Json) -> None:
    """Send one sample more than the largest batch."""
    size = target.model.max_batch_size
    if not size or size > 256:
        raise Skip(f"max_batch_size is {size}")
    for fields in document["inputs"]:
        fields["data"] = fields["data"] * (size + 1)
        fields["shape"] = [size + 1, *fields["shape"][1:]]


def without_inputs(_: Target, document: Json) -> None:
    """Leave out the member inputs."""
    del document["inputs"]


def nothing_required(_: Target, document: Json) -> None:
    """Leave out every input."""
    document["inputs"] = []


FAULTS: tuple[tuple[str, Level, str, str, Fault], ...] = (
    ("not_an_object", MUST, "A document that is no object", SOURCE, lambda _, document: [document]),
    ("no_inputs", MUST, "A document without inputs", SOURCE, without_inputs),
    ("inputs_not_a_list", MUST, "An inputs member that is no list", SOURCE, member("inputs", {"a": 1})),
    ("input_not_an_object", MUST, "An input that is no object", SOURCE, member("inputs", [7])),
    ("missing_input", MUST, "A request without the model's input", SOURCE, nothing_required),
    ("unknown_input", MUST, "An unknown input", SOURCE, of_input(name="no_such_input")),
    ("surplus_input", MUST, "An input beside the model's", SOURCE, surplus_input),
    ("input_twice", MUST, "An input given twice", SOURCE, twice),
    ("no_name", MUST, "An input without a name", SOURCE, dropped("name")),
    ("no_shape", MUST, "An input without a shape", SOURCE, dropped("shape")),
    ("no_datatype", MUST, "An input without a datatype", SOURCE, dropped("datatype")),
    ("no_data", MUST, "An input without data", SOURCE, dropped("data")),
    ("name_not_a_string", MUST, "A name that is no string", SOURCE, of_input(name=5)),
    ("unknown_datatype", MUST, "A datatype that the protocol does not have", SOURCE, of_input(datatype="FP13")),
    ("wrong_datatype", MUST, "A datatype other than the model's", SOURCE, other_datatype),
    ("shape_not_a_list", MUST, "A shape that is no list", SHAPES, of_input(shape=4)),
    ("shape_of_strings", MUST, "A shape of strings", SHAPES, shape(lambda sizes: [str(n) for n in sizes])),
    ("shape_negative", MUST, "A negative dimension", SHAPES, shape(lambda sizes: [-1, *sizes[1:]])),
    ("shape_too_long", MUST, "A dimension too many", SHAPES, shape(lambda sizes: [*sizes, 1, 1])),
    ("shape_too_short", MUST, "A shape without dimensions", SHAPES, shape(lambda _: [])),
    ("shape_larger", MUST, "A shape of more elements than there are", SHAPES, shape(lambda n: [*n[:-1], n[-1] + 1])),
    ("data_short", MUST, "Data with an element too few", SHAPES, data(lambda values: values[:-1])),
    ("data_long", MUST, "Data with an element too many", SHAPES, data(lambda values: [*values, values[0]])),
    ("data_ragged", MUST, "Data in rows of different lengths", SHAPES, ragged),
    ("data_not_a_list", MUST, "Data that is no list", SHAPES, data(lambda _: "data")),
    ("data_null", MUST, "An element that is null", SHAPES, data(lambda values: [None, *values[1:]])),
    ("data_object", MUST, "An element that is an object", SHAPES, data(lambda values: [{}, *values[1:]])),
    ("data_string", MUST, "A string in a tensor of numbers", SHAPES, element("1")),
    ("data_out_of_range", MUST, "An integer beyond its datatype", SHAPES, integer_element(2**63)),
    ("data_fraction", MUST, "A fraction in a tensor of integers", SHAPES, integer_element(0.5)),
    ("batch_too_large", TRITON, "A batch above max_batch_size", "Triton model configuration", too_many),
    ("unknown_output", MUST, "An unknown output", SOURCE, member("outputs", [{"name": "no_such_output"}])),
    ("outputs_not_a_list", MUST, "An outputs member that is no list", SOURCE, member("outputs", {"a": 1})),
    ("output_without_name", MUST, "An output without a name", SOURCE, member("outputs", [{}])),
    ("id_not_a_string", MUST, "An id that is no string", SOURCE, member("id", {"a": 1})),
    ("parameters_not_an_object", MUST, "A parameters member that is no object", SOURCE, member("parameters", [1])),
    ("parameter_an_object", MUST, "A parameter that is an object", SOURCE, member("parameters", {"priority": {}})),
)  # fmt: skip

HAZARDS: tuple[tuple[str, str, Fault], ...] = (
    ("shape_gigantic", "A shape of 2^40 samples in a small body", shape(lambda n: [2**40, *n[1:]])),
    ("shape_overflow", "A shape whose product wraps around 64 bits", shape(lambda n: [2**62 + 1, *n[1:]])),
    ("shape_beyond_64_bits", "A dimension beyond 64 bits", shape(lambda n: [2**70, *n[1:]])),
    ("shape_of_many", "A shape of 100,000 dimensions", shape(lambda n: [1] * 100_000 + n)),
)  # fmt: skip


def refuse(fault: Fault, target: Target) -> None:
    """Send a spoilt document, expect it to be refused, and the server to live."""
    document: Json = {"inputs": [json_input(tensor) for tensor in target.model.tensors()]}
    replaced = fault(target, document)
    body = encode(document if replaced is None else replaced)
    expect_refused(target.http.post(target.model_path("infer"), body))
    target.is_alive()


for _name, _level, _what, _source, _fault in FAULTS:
    add(Check(f"http.refuse.{_name}", _level, f"{_what} is refused.", _source, partial(refuse, _fault)))
for _name, _what, _fault in HAZARDS:
    add(Check(f"http.refuse.{_name}", MUST, f"{_what} is refused.", SHAPES, partial(refuse, _fault), is_hazard=True))


@check("http.refuse.names_the_input", TRITON, "Triton's messages name what is wrong")
def names_the_input(target: Target) -> None:
    """The error for a wrong input names it."""
    document: Json = {"inputs": [json_input(tensor) for tensor in target.model.tensors()]}
    first(document)["name"] = "no_such_input"
    message = expect_refused(target.http.post(target.model_path("infer"), encode(document)))
    expect("no_such_input" in message, message, "the name no_such_input")


@check("http.refuse.unknown_model", MUST, SOURCE)
def unknown_model(target: Target) -> None:
    """Inference of an unknown model is 404 with an error."""
    body = encode({"inputs": [json_input(tensor) for tensor in target.model.tensors()]})
    expect_refused(target.http.post(target.model_path("infer", name="no_such_model"), body), {404})


@check("http.refuse.unknown_version", MUST, SOURCE)
def unknown_version(target: Target) -> None:
    """Inference of an unknown version is 404 with an error."""
    body = encode({"inputs": [json_input(tensor) for tensor in target.model.tensors()]})
    expect_refused(target.http.post(target.model_path("infer", "999999"), body), {404})


@check("http.refuse.version_not_a_number", MUST, SOURCE)
def version_not_a_number(target: Target) -> None:
    """Inference of a version that is no number is 4xx with an error."""
    body = encode({"inputs": [json_input(tensor) for tensor in target.model.tensors()]})
    expect_refused(target.http.post(target.model_path("infer", "newest"), body))


def spoilt(change: Callable[[bytes], bytes], target: Target) -> None:
    """Send a document spoilt as bytes, expect it to be refused, and the server to live."""
    document = encode({"inputs": [json_input(tensor) for tensor in target.model.tensors()], "id": "here"})
    expect_refused(target.http.post(target.model_path("infer"), change(document)))
    target.is_alive()


def with_id(text: bytes) -> Callable[[bytes], bytes]:
    """Put bytes in the place of the document's id."""
    return lambda document: document.replace(b"here", text)


DEEP = b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BROKEN: tuple[tuple[str, str, Callable[[bytes], bytes], bool], ...] = (
    ("empty_body", "An empty body", lambda _: b"", False),
    ("json_cut", "JSON that ends too early", lambda document: document[:-1], False),
    ("json_surplus", "JSON with something behind it", lambda document: document + b"}", False),
    ("json_single_quotes", "JSON in single quotes", lambda document: document.replace(b'"', b"'"), False),
    ("json_nan", "The literal NaN", lambda _: b'{"inputs": [NaN]}', False),
    ("json_infinity", "The literal -Infinity", lambda _: b'{"inputs": [-Infinity]}', False),
    ("json_not_utf8", "Text that is not UTF-8", with_id(b"\xff\xfe"), False),
    ("json_control", "A bare control character in a string", with_id(b"\x01"), False),
    ("json_deep", "JSON nested 100,000 deep", lambda _: DEEP, True),
    ("json_garbage", "A body of bytes that are no text", lambda _: bytes(range(256)), False),
)  # fmt: skip
for _name, _what, _change, _is_hazard in BROKEN:
    add(Check(f"http.refuse.{_name}", MUST, f"{_what} is refused.", "RFC 8259", partial(spoilt, _change), _is_hazard))
