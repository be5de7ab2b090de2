"""ModelInfer requests that no server can answer: each has its status code, and the server still answers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from loadtest.conformance.expect import Skip, expect
from loadtest.conformance.registry import MUST, TRITON, Check, Level, add, check
from loadtest.conformance.rpc import CODES, raw_request, typed_request
from loadtest.conformance.target import Target
from loadtest.conformance.tensors import BYTES

SOURCE = "OIP gRPC, ModelInfer; gRPC status codes"
INVALID, MISSING = (CODES.INVALID_ARGUMENT,), (CODES.NOT_FOUND,)
NO_MESSAGE = (CODES.INVALID_ARGUMENT, CODES.INTERNAL, CODES.UNKNOWN)
Fault = Callable[[Target, Any], None]
"""Spoils a sound request in place."""


def fields(**values: object) -> Fault:
    """Set fields of the first input."""

    def spoil(_: Target, request: Any) -> None:
        for name, value in values.items():
            setattr(request.inputs[0], name, value)

    return spoil


def shape(change: Callable[[list[int]], list[int]]) -> Fault:
    """Change the shape of the first input."""

    def spoil(_: Target, request: Any) -> None:
        request.inputs[0].shape[:] = change(list(request.inputs[0].shape))

    return spoil


def raw(change: Callable[[bytes], bytes]) -> Fault:
    """Change the raw contents of the first input."""

    def spoil(_: Target, request: Any) -> None:
        request.raw_input_contents[0] = change(request.raw_input_contents[0])

    return spoil


def other_datatype(target: Target, request: Any) -> None:
    """Give the first input another datatype of the protocol."""
    request.inputs[0].datatype = "FP64" if target.model.required[0].datatype != "FP64" else "INT64"


def no_inputs(_: Target, request: Any) -> None:
    """Leave out every input."""
    del request.inputs[:]
    del request.raw_input_contents[:]


def surplus_input(_: Target, request: Any) -> None:
    """Give an input that the model does not have."""
    request.inputs.add(name="no_such_input", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(bytes(4))


def input_without_raw(_: Target, request: Any) -> None:
    """Give one input more than raw contents."""
    request.inputs.add(name="x")


def raw_without_input(_: Target, request: Any) -> None:
    """Give one raw content more than inputs."""
    request.raw_input_contents.append(b"x")


def twice(_: Target, request: Any) -> None:
    """Give the first input twice."""
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])


def too_many(target: Target, request: Any) -> None:
    """Send one sample more than the largest batch."""
    size = target.model.max_batch_size
    if not size or size > 256:
        raise Skip(f"max_batch_size is {size}")
    for index, tensor in enumerate(request.inputs):
        tensor.shape[0] = size + 1
        request.raw_input_contents[index] *= size + 1


def bytes_length(_: Target, request: Any) -> None:
    """Let an element of a BYTES input be longer than what there is."""
    for index, tensor in enumerate(request.inputs):
        if tensor.datatype == BYTES:
            request.raw_input_contents[index] = b"\xff\xff\xff\x7f" + request.raw_input_contents[index][4:]
            return
    raise Skip("no input is BYTES")


def unknown_output(_: Target, request: Any) -> None:
    """Ask for an output that the model does not have."""
    request.outputs.add(name="no_such_output")


def also_typed(_: Target, request: Any) -> None:
    """Give the first input typed contents beside the raw ones."""
    request.inputs[0].contents.int_contents.append(1)


def region(_: Target, request: Any) -> None:
    """Let the first input lie in a shared memory region that is not registered."""
    request.inputs[0].parameters["shared_memory_region"].string_param = "no_such_region"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 16


FAULTS: tuple[tuple[str, Level, str, Fault], ...] = (
    ("missing_input", MUST, "A request without the model's input", no_inputs),
    ("unknown_input", MUST, "An unknown input", fields(name="no_such_input")),
    ("surplus_input", MUST, "An input beside the model's", surplus_input),
    ("input_twice", MUST, "An input given twice", twice),
    ("unknown_datatype", MUST, "A datatype that the protocol does not have", fields(datatype="FP13")),
    ("wrong_datatype", MUST, "A datatype other than the model's", other_datatype),
    ("shape_negative", MUST, "A negative dimension", shape(lambda sizes: [-1, *sizes[1:]])),
    ("shape_too_long", MUST, "A dimension too many", shape(lambda sizes: [*sizes, 1, 1])),
    ("shape_too_short", MUST, "A shape without dimensions", shape(lambda _: [])),
    ("raw_short", MUST, "Raw content below the shape's size", raw(lambda data: data[:-1])),
    ("raw_long", MUST, "Raw content above the shape's size", raw(lambda data: data + b"\0")),
    ("raw_empty", MUST, "Empty raw content", raw(lambda _: b"")),
    ("raw_too_few", MUST, "Less raw content than inputs", input_without_raw),
    ("raw_too_many", MUST, "More raw content than inputs", raw_without_input),
    ("raw_and_typed", MUST, "Raw and typed content together", also_typed),
    ("bytes_length", MUST, "A BYTES element longer than its contents", bytes_length),
    ("batch_too_large", TRITON, "A batch above max_batch_size", too_many),
    ("unknown_output", MUST, "An unknown output", unknown_output),
    ("shared_memory", TRITON, "A shared memory region that is not registered", region),
)  # fmt: skip

HAZARDS: tuple[tuple[str, str, Fault], ...] = (
    ("shape_gigantic", "A shape of 2^40 samples in a small message", shape(lambda n: [2**40, *n[1:]])),
    ("shape_overflow", "A shape whose product wraps around 64 bits", shape(lambda n: [2**62 + 1, *n[1:]])),
)  # fmt: skip


def refuse(fault: Fault, target: Target) -> None:
    """Send a spoilt request, expect it to be refused with a message, and the server to live."""
    rpc, request = target.rpc, raw_request(target.model.name, target.model.tensors())
    fault(target, request)
    allowed = (CODES.INVALID_ARGUMENT, CODES.NOT_FOUND) if fault is region else INVALID
    message = rpc.refused("ModelInfer", request, allowed)
    expect(bool(message.strip()), "an empty message", "one that says why")
    rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors()))


for _name, _level, _what, _fault in FAULTS:
    add(Check(f"grpc.refuse.{_name}", _level, f"{_what} is INVALID_ARGUMENT.", SOURCE, partial(refuse, _fault)))
for _name, _what, _fault in HAZARDS:
    add(
        Check(
            f"grpc.refuse.{_name}",
            MUST,
            f"{_what} is INVALID_ARGUMENT.",
            SOURCE,
            partial(refuse, _fault),
            is_hazard=True,
        )
    )


@check("grpc.refuse.unknown_model", MUST, SOURCE)
def unknown_model(target: Target) -> None:
    """Inference of an unknown model is NOT_FOUND."""
    target.rpc.refused("ModelInfer", raw_request("no_such_model", target.model.tensors()), MISSING)


@check("grpc.refuse.unknown_version", MUST, SOURCE)
def unknown_version(target: Target) -> None:
    """Inference of an unknown version is NOT_FOUND."""
    request = raw_request(target.model.name, target.model.tensors(), model_version="999999")
    target.rpc.refused("ModelInfer", request, MISSING)


@check("grpc.refuse.version_not_a_number", MUST, SOURCE)
def version_not_a_number(target: Target) -> None:
    """Inference of a version that is no number is INVALID_ARGUMENT or NOT_FOUND."""
    request = raw_request(target.model.name, target.model.tensors(), model_version="newest")
    target.rpc.refused("ModelInfer", request, [*INVALID, *MISSING])


@check("grpc.refuse.typed_short", MUST, SOURCE)
def typed_short(target: Target) -> None:
    """Typed contents with an element too few are INVALID_ARGUMENT."""
    request = typed_request(target.model.name, target.model.tensors())
    for _, contents in request.inputs[0].contents.ListFields():
        del contents[-1]
    target.rpc.refused("ModelInfer", request, INVALID)


@check("grpc.refuse.empty_request", MUST, SOURCE)
def empty_request(target: Target) -> None:
    """A request without a model is INVALID_ARGUMENT or NOT_FOUND."""
    target.rpc.refused("ModelInfer", pb.ModelInferRequest(), [*INVALID, *MISSING])


@check("grpc.refuse.not_a_message", MUST, "gRPC: a message that cannot be parsed")
def not_a_message(target: Target) -> None:
    """Bytes that are no message are refused, and the server lives."""
    method = target.rpc.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", lambda data: data, pb.ModelInferResponse.FromString
    )
    target.rpc.refused_by(method, b"\xff" * 100, NO_MESSAGE)
    target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors()))
