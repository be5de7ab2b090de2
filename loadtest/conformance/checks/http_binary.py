"""The binary tensor data extension: layout, sizes, and the raw form."""

from loadtest.conformance.expect import Skip, expect, expect_equal
from loadtest.conformance.http import Response
from loadtest.conformance.messages import (
    HEADER_LENGTH,
    Message,
    binary_input,
    binary_message,
    encode,
    json_input,
    json_message,
    read_answer,
    split,
    with_binary,
)
from loadtest.conformance.registry import TRITON, check
from loadtest.conformance.target import Target, expect_refused
from loadtest.conformance.tensors import are_close, split_bytes

SOURCE = "Triton binary tensor data extension, HTTP"
RAW = SOURCE + ": Raw Binary Request"


def ask(target: Target, **members: object) -> Response:
    """Make a sound binary request."""
    target.requires("binary_tensor_data")
    return target.infer(binary_message(target.model.tensors(), **members))


@check("http.binary.infer", TRITON, SOURCE)
def infer(target: Target) -> None:
    """Inputs and outputs may be binary."""
    answer = read_answer(ask(target))
    expect_equal(sorted(answer.binary), sorted(answer.outputs), "binary outputs")


@check("http.binary.same_as_json", TRITON, SOURCE)
def same_as_json(target: Target) -> None:
    """Binary and JSON give the same answer."""
    binary = read_answer(ask(target)).outputs
    for name, tensor in target.ask().outputs.items():
        expect(are_close(binary[name], tensor), f"another {name}", "the answer in JSON")


@check("http.binary.json_outputs", TRITON, SOURCE)
def json_outputs(target: Target) -> None:
    """Without binary_data_output a binary request is answered in JSON, without the header length."""
    response = ask(target, parameters={})
    expect_equal(read_answer(response).binary, (), "binary outputs")
    expect_equal(response.header(HEADER_LENGTH), None, HEADER_LENGTH)


@check("http.binary.output", TRITON, SOURCE)
def one_output(target: Target) -> None:
    """binary_data asks for one output in binary, the others come in JSON."""
    target.requires("binary_tensor_data")
    names = [port.name for port in target.model.outputs]
    if len(names) < 2:
        raise Skip("the model has one output")
    outputs = [{"name": names[0]}, {"name": names[1], "parameters": {"binary_data": True}}]
    answer = read_answer(target.infer(json_message(target.model.tensors(), outputs=outputs)))
    expect_equal(answer.binary, (names[1],), "binary outputs")
    expect_equal(sorted(answer.outputs), sorted(names[:2]), "outputs")


@check("http.binary.output_overrides", TRITON, SOURCE + ": binary_data overrides binary_data_output")
def output_overrides(target: Target) -> None:
    """binary_data=false keeps one output in JSON where binary_data_output asks for binary."""
    name = target.model.outputs[0].name
    listed = [{"name": name, "parameters": {"binary_data": False}}]
    expect_equal(read_answer(ask(target, outputs=listed)).binary, (), "binary outputs")


@check("http.binary.default_of_listed_outputs", TRITON, SOURCE + ": binary_data_output is the default of all outputs")
def default_of_listed_outputs(target: Target) -> None:
    """binary_data_output holds for listed outputs that say nothing themselves."""
    name = target.model.outputs[0].name
    expect_equal(read_answer(ask(target, outputs=[{"name": name}])).binary, (name,), "binary outputs")


@check("http.binary.mixed_inputs", TRITON, SOURCE)
def mixed_inputs(target: Target) -> None:
    """One input may be binary and another JSON (--option)."""
    target.requires("binary_tensor_data")
    tensors = [*target.model.tensors(), *target.model.option_tensors()]
    document = encode({"inputs": [binary_input(tensors[0]), *map(json_input, tensors[1:])]})
    read_answer(target.infer(with_binary(document, [tensors[0].to_raw()])))


@check("http.binary.input_order", TRITON, SOURCE)
def input_order(target: Target) -> None:
    """Binary data comes in the order of the inputs that carry it (--option)."""
    target.requires("binary_tensor_data")
    tensors = [*target.model.tensors(), *target.model.option_tensors()]
    one, other = (read_answer(target.infer(binary_message(order))) for order in (tensors, tensors[::-1]))
    for name, tensor in one.outputs.items():
        expect(are_close(tensor, other.outputs[name]), f"another {name}", "the same answer in either order")


@check("http.binary.content_type", TRITON, SOURCE)
def content_type(target: Target) -> None:
    """A binary answer says that it is application/octet-stream."""
    expect_equal(ask(target).header("content-type"), "application/octet-stream", "Content-Type")


@check("http.binary.header_length", TRITON, SOURCE)
def header_length(target: Target) -> None:
    """The answer's header length is that of its JSON document, and the sizes of its outputs make up the rest."""
    response = ask(target)
    document, rest = split(response)
    sizes = [fields.get("parameters", {}).get("binary_data_size", 0) for fields in document["outputs"]]
    expect(response.header(HEADER_LENGTH) is not None, "no " + HEADER_LENGTH, "the length of the document")
    expect_equal(len(rest), sum(sizes), "bytes behind the document:")


@check("http.binary.no_data_member", TRITON, SOURCE)
def no_data_member(target: Target) -> None:
    """A binary output has no data member."""
    odd = [fields["name"] for fields in split(ask(target))[0]["outputs"] if "data" in fields]
    expect(not odd, f"data in {odd}", "binary_data_size alone")


@check("http.binary.id", TRITON, SOURCE)
def id_of_binary(target: Target) -> None:
    """A binary answer has the request's id."""
    expect_equal(read_answer(ask(target, id="b-7")).document.get("id"), "b-7", "id")


@check("http.binary.header_name_case", TRITON, "RFC 9110 5.1")
def header_name_case(target: Target) -> None:
    """Header names are taken in any case."""
    target.requires("binary_tensor_data")
    message = binary_message(target.model.tensors())
    headers = {name.lower(): value for name, value in message.headers.items()}
    read_answer(target.infer(Message(message.body, headers)))


@check("http.binary.bytes_layout", TRITON, SOURCE + ": BYTES; classification extension")
def bytes_layout(target: Target) -> None:
    """A BYTES output is, for each element, four bytes of little-endian length and the element."""
    target.requires("binary_tensor_data")
    target.requires("classification")
    wanted = {"name": target.model.scores().name, "parameters": {"classification": 2, "binary_data": True}}
    response = target.infer(json_message(target.model.tensors(), outputs=[wanted]))
    read_answer(response)
    expect_equal(len(split_bytes(split(response)[1])), 2, "elements:")


def raw_message(target: Target) -> Message:
    """Return a request in the raw form, which takes one input and one sample."""
    target.requires("binary_tensor_data")
    (tensor, *others) = target.model.tensors()
    if others or target.model.hints.inputs:
        raise Skip("it is not clear which input is meant")
    raw = tensor.items[0] if tensor.datatype == "BYTES" else tensor.to_raw()
    return Message(raw, {HEADER_LENGTH: "0"})


@check("http.binary.raw", TRITON, RAW)
def raw(target: Target) -> None:
    """A header length of 0 makes the whole body the one input; all outputs come binary."""
    answer = read_answer(target.infer(raw_message(target)))
    expect_equal(sorted(answer.binary), sorted(answer.outputs), "binary outputs")
    for name, tensor in read_answer(ask(target)).outputs.items():
        expect(are_close(answer.outputs[name], tensor), f"another {name}", "the answer of the binary form")


@check("http.binary.raw_too_short", TRITON, RAW)
def raw_too_short(target: Target) -> None:
    """A raw body of the wrong size is refused."""
    message = raw_message(target)
    if target.model.required[0].datatype == "BYTES":
        raise Skip("any bytes are a BYTES element")
    expect_refused(target.infer(Message(message.body[:-1], message.headers)))


@check("http.binary.empty_tensor", TRITON, SOURCE)
def empty_tensor(target: Target) -> None:
    """A tensor without elements is answered or refused, never a failure of the server."""
    target.requires("binary_tensor_data")
    tensors = target.model.tensors()
    fields = [{**binary_input(tensor), "shape": [0, *tensor.shape[1:]]} for tensor in tensors]
    fields = [{**each, "parameters": {"binary_data_size": 0}} for each in fields]
    status = target.infer(with_binary(encode({"inputs": fields}), [])).status
    expect(status < 500, f"status {status}", "200 or 4xx")
    target.is_alive()
