"""Inference in JSON, as the protocol's core has it."""

import json

from loadtest.conformance.expect import Skip, expect, expect_equal
from loadtest.conformance.messages import encode, json_input, json_message, read_answer, split
from loadtest.conformance.registry import MUST, TRITON, check
from loadtest.conformance.target import CONTENT_JSON, Target
from loadtest.conformance.tensors import DATATYPES, are_close

SOURCE = "OIP REST, Inference"


@check("http.infer.flat", MUST, SOURCE + ": Tensor Data")
def flat(target: Target) -> None:
    """Tensor data may be one flat list in row-major order."""
    target.ask()


@check("http.infer.nested", MUST, SOURCE + ": Tensor Data")
def nested(target: Target) -> None:
    """Tensor data may be nested as its shape; the answer is that of the flat list."""
    tensors = target.model.tensors()
    inputs = [json_input(tensor, nested=True) for tensor in tensors]
    answer = read_answer(target.http.post(target.model_path("infer"), encode({"inputs": inputs})))
    for name, tensor in target.ask().outputs.items():
        expect(are_close(answer.outputs[name], tensor), f"another {name}", "the answer of the flat list")


@check("http.infer.model_name", MUST, SOURCE + " Response")
def model_name(target: Target) -> None:
    """The answer names the model."""
    expect_equal(target.ask().document.get("model_name"), target.model.name, "model_name")


@check("http.infer.model_version", MUST, SOURCE + " Response")
def model_version(target: Target) -> None:
    """A model_version in the answer is a string."""
    version = target.ask().document.get("model_version", "")
    expect(isinstance(version, str), f"model_version {version!r}", "a string")


@check("http.infer.outputs", MUST, SOURCE + " Response")
def outputs(target: Target) -> None:
    """Without a list of outputs the answer has all of the metadata."""
    expect_equal(sorted(target.ask().outputs), sorted(port.name for port in target.model.outputs), "outputs")


@check("http.infer.output_datatypes", MUST, SOURCE + " Response")
def output_datatypes(target: Target) -> None:
    """Outputs have the datatypes that the metadata says."""
    answer = target.ask()
    for port in target.model.outputs:
        expect_equal(answer.outputs[port.name].datatype, port.datatype, f"{port.name} datatype")


@check("http.infer.output_shapes", MUST, SOURCE + " Response")
def output_shapes(target: Target) -> None:
    """Outputs have the shapes that the metadata says."""
    answer = target.ask()
    for port in target.model.outputs:
        shape = answer.outputs[port.name].shape
        is_match = len(shape) == len(port.shape) and all(
            want in {-1, got} for want, got in zip(port.shape, shape, strict=True)
        )
        expect(is_match, f"{port.name} {list(shape)}", f"{list(port.shape)}")


@check("http.infer.selected_outputs", MUST, SOURCE + " Request: outputs")
def selected_outputs(target: Target) -> None:
    """A list of outputs selects them."""
    name = target.model.outputs[-1].name
    expect_equal(list(target.ask(outputs=[{"name": name}]).outputs), [name], "outputs")


@check("http.infer.id", MUST, SOURCE + " Response: id")
def request_id(target: Target) -> None:
    """The answer has the request's id."""
    expect_equal(target.ask(id="id-42").document.get("id"), "id-42", "id")


@check("http.infer.id_of_all_characters", MUST, SOURCE + " Response: id; RFC 8259")
def id_of_all_characters(target: Target) -> None:
    """An id of quotes, backslashes, controls and letters of the world comes back as it was."""
    name = 'quote " slash \\ tab \t Ж 漢 🎈 ' + "x" * 300
    expect_equal(target.ask(id=name).document.get("id"), name, "id")


@check("http.infer.no_id", MUST, SOURCE + " Response: id")
def no_id(target: Target) -> None:
    """Without an id in the request the answer has none, or a string."""
    name = target.ask().document.get("id", "")
    expect(isinstance(name, str), f"id {name!r}", "none, or a string")


@check("http.infer.id_of_a_batch", MUST, SOURCE + " Response: id")
def ids_do_not_mix(target: Target) -> None:
    """Ids do not mix on one connection."""
    with target.http.open() as connection:
        for name in map(str, range(10)):
            body = json_message(target.model.tensors(), id=name).body
            answer = read_answer(connection.request("POST", target.http.path(target.model_path("infer")), body))
            expect_equal(answer.document.get("id"), name, "id")


@check("http.infer.version", MUST, SOURCE + ": model version")
def version(target: Target) -> None:
    """A version may be named in the path; the answer says which it was."""
    answer = read_answer(target.infer(json_message(target.model.tensors()), target.model.version))
    expect_equal(answer.document.get("model_version"), target.model.version, "model_version")


@check("http.infer.content_type", MUST, SOURCE + " Response; RFC 9110 8.3")
def content_type(target: Target) -> None:
    """An answer in JSON says that it is application/json."""
    kind = target.infer(json_message(target.model.tensors())).header("content-type") or ""
    expect(kind.split(";")[0].strip() == CONTENT_JSON, f"Content-Type {kind!r}", CONTENT_JSON)


@check("http.infer.any_content_type", TRITON, "tritonclient.http sends none, aiohttp application/octet-stream")
def any_content_type(target: Target) -> None:
    """The body is read for what it is, whatever the Content-Type says."""
    message = json_message(target.model.tensors())
    for kind in ("application/json", "application/octet-stream", "application/x-www-form-urlencoded"):
        read_answer(target.infer(message, Content_Type=kind))


@check("http.infer.whitespace", MUST, "RFC 8259")
def whitespace(target: Target) -> None:
    """A document may be indented, its members in any order."""
    document = {"inputs": [json_input(tensor) for tensor in target.model.tensors()], "id": "a"}
    body = json.dumps(dict(reversed(document.items())), indent=2).encode()
    read_answer(target.http.post(target.model_path("infer"), body))


@check("http.infer.escapes", MUST, "RFC 8259 7")
def escapes(target: Target) -> None:
    """Names may be written with JSON escapes."""
    document = encode({"inputs": [json_input(tensor) for tensor in target.model.tensors()]})
    name = target.model.required[0].name
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in name)
    read_answer(target.http.post(target.model_path("infer"), document.replace(name.encode(), escaped.encode(), 1)))


@check("http.infer.empty_parameters", MUST, SOURCE + ": parameters")
def empty_parameters(target: Target) -> None:
    """Empty parameters of request, inputs and outputs are as none."""
    inputs = [{**json_input(tensor), "parameters": {}} for tensor in target.model.tensors()]
    listed = [{"name": port.name, "parameters": {}} for port in target.model.outputs]
    body = encode({"inputs": inputs, "outputs": listed, "parameters": {}})
    read_answer(target.http.post(target.model_path("infer"), body))


@check("http.infer.batch", MUST, SOURCE)
def batch(target: Target) -> None:
    """A batch of two is answered with two rows of every output."""
    for name, tensor in target.ask(2).outputs.items():
        expect(tensor.shape[0] == 2, f"{name} {list(tensor.shape)}", "2 rows")


@check("http.infer.largest_batch", TRITON, "Triton model configuration: max_batch_size")
def largest_batch(target: Target) -> None:
    """A batch of max_batch_size is answered."""
    size = target.model.max_batch_size
    if not size or size > 256:
        raise Skip(f"max_batch_size is {size}")
    for name, tensor in target.ask_binary(size).outputs.items():
        expect(tensor.shape[0] == size, f"{name} {list(tensor.shape)}", f"{size} rows")


@check("http.infer.option", TRITON, "Triton model configuration: optional inputs")
def option(target: Target) -> None:
    """Optional inputs may be given (--option) and left out."""
    optional = target.model.option_tensors()
    read_answer(target.infer(json_message([*target.model.tensors(), *optional])))
    target.ask()


@check("http.infer.input_order", MUST, SOURCE + ": inputs have names")
def input_order(target: Target) -> None:
    """Inputs may come in any order."""
    tensors = [*target.model.tensors(), *target.model.option_tensors()]
    read_answer(target.infer(json_message(tensors[::-1])))


@check("http.infer.parameters", MUST, SOURCE + ": parameters")
def parameters(target: Target) -> None:
    """Request parameters that the model knows (--parameter) are taken."""
    known = dict(target.model.hints.parameters)
    if not known:
        raise Skip("no parameter is named: --parameter NAME=VALUE")
    target.ask(parameters=known)


@check("http.infer.priority", TRITON, "Triton schedule policy extension")
def priority(target: Target) -> None:
    """The parameter priority is taken."""
    target.requires("schedule_policy")
    target.ask(parameters={"priority": 1})


@check("http.infer.timeout", TRITON, "Triton schedule policy extension")
def timeout(target: Target) -> None:
    """The parameter timeout, in microseconds, is taken; one of 20 s does not run out."""
    target.requires("schedule_policy")
    target.ask(parameters={"timeout": 20_000_000})


@check("http.infer.output_parameters", TRITON, "C++ client: an output's parameters hold binary_data_size")
def output_parameters(target: Target) -> None:
    """Where an output has parameters, binary_data_size is among them."""
    for fields in split(target.infer(json_message(target.model.tensors())))[0]["outputs"]:
        size = fields.get("parameters", {"binary_data_size": 0}).get("binary_data_size")
        expect(type(size) is int, f"{fields['name']} {fields.get('parameters')}", "binary_data_size, or no parameters")


@check("http.infer.response_parameters", MUST, SOURCE + " Response: parameters")
def response_parameters(target: Target) -> None:
    """Parameters of the answer are strings, numbers or booleans."""
    found = target.ask().document.get("parameters", {})
    expect(isinstance(found, dict), f"parameters {found!r}", "an object")
    odd = {name: value for name, value in found.items() if not isinstance(value, str | int | float | bool)}
    expect(not odd, odd, "strings, numbers or booleans")


@check("http.infer.known_datatypes", MUST, "OIP REST, Tensor Data Types")
def known_datatypes(target: Target) -> None:
    """Datatypes of the answer are those of the protocol."""
    odd = {name: tensor.datatype for name, tensor in target.ask().outputs.items() if tensor.datatype not in DATATYPES}
    expect(not odd, odd, "datatypes of the protocol")
