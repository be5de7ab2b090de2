"""ModelInfer: what it answers."""

import contextlib
import time

import grpc
from tritonclient.grpc import service_pb2 as pb

from loadtest.conformance.expect import Failure, Skip, expect, expect_equal, expect_in
from loadtest.conformance.registry import MUST, TRITON, check
from loadtest.conformance.rpc import raw_request, read_response, typed_request
from loadtest.conformance.target import Target
from loadtest.conformance.tensors import are_close

SOURCE = "OIP gRPC, ModelInfer"


@check("grpc.infer.raw", MUST, SOURCE + ": raw_input_contents")
def raw(target: Target) -> None:
    """Inputs may be raw; the answer has all outputs."""
    response = target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors()))
    outputs = read_response(response)
    expect_equal(sorted(outputs), sorted(port.name for port in target.model.outputs), "outputs")


@check("grpc.infer.typed", MUST, SOURCE + ": contents")
def typed(target: Target) -> None:
    """Inputs may be typed contents; the answer is that of the raw form."""
    if any(port.datatype in {"FP16", "BF16"} for port in target.model.required):
        raise Skip("FP16 and BF16 have no typed contents")
    tensors = target.model.tensors()
    made, bare = (
        read_response(target.rpc.call("ModelInfer", request))
        for request in (typed_request(target.model.name, tensors), raw_request(target.model.name, tensors))
    )
    for name, tensor in bare.items():
        expect(are_close(made[name], tensor), f"another {name}", "the answer of the raw form")


@check("grpc.infer.raw_outputs", TRITON, "tritonclient.grpc reads raw_output_contents only")
def raw_outputs(target: Target) -> None:
    """Outputs are raw, whatever the inputs were."""
    read_response(target.rpc.call("ModelInfer", typed_request(target.model.name, target.model.tensors())))


@check("grpc.infer.datatypes_and_shapes", MUST, SOURCE)
def datatypes_and_shapes(target: Target) -> None:
    """Outputs have the datatypes and shapes of the metadata."""
    outputs = read_response(target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors())))
    for port in target.model.outputs:
        tensor = outputs[port.name]
        expect_equal(tensor.datatype, port.datatype, f"{port.name} datatype")
        sizes = [got if want == -1 else want for got, want in zip(tensor.shape, port.shape, strict=False)]
        expect_equal(list(tensor.shape), sizes, f"{port.name} shape")


@check("grpc.infer.same_as_http", MUST, SOURCE)
def same_as_http(target: Target) -> None:
    """gRPC and HTTP give the same answer."""
    outputs = read_response(target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors())))
    for name, tensor in target.ask_binary().outputs.items():
        expect(are_close(outputs[name], tensor), f"another {name}", "the answer over HTTP")


@check("grpc.infer.id", MUST, SOURCE + ": id")
def request_id(target: Target) -> None:
    """The answer has the request's id, and none if there was none."""
    for name in ("id-42", "", "Ж 漢 🎈" * 50):
        response = target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors(), id=name))
        expect_equal(response.id, name, "id")


@check("grpc.infer.model", MUST, SOURCE)
def model(target: Target) -> None:
    """The answer names the model and its version."""
    response = target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors()))
    got = [response.model_name, response.model_version]
    expect_equal(got, [target.model.name, target.model.version], "model and version")


@check("grpc.infer.version", MUST, SOURCE)
def version(target: Target) -> None:
    """A version may be named."""
    request = raw_request(target.model.name, target.model.tensors(), model_version=target.model.version)
    expect_equal(target.rpc.call("ModelInfer", request).model_version, target.model.version, "version")


@check("grpc.infer.selected_outputs", MUST, SOURCE + ": outputs")
def selected_outputs(target: Target) -> None:
    """A list of outputs selects them."""
    name = target.model.outputs[-1].name
    listed = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name)]
    request = raw_request(target.model.name, target.model.tensors(), outputs=listed)
    expect_equal(list(read_response(target.rpc.call("ModelInfer", request))), [name], "outputs")


@check("grpc.infer.batch", MUST, SOURCE)
def batch(target: Target) -> None:
    """A batch of two is answered with two rows of every output."""
    outputs = read_response(target.rpc.call("ModelInfer", raw_request(target.model.name, target.model.tensors(2))))
    for name, tensor in outputs.items():
        expect(tensor.shape[0] == 2, f"{name} {list(tensor.shape)}", "2 rows")


@check("grpc.infer.option", TRITON, "Triton model configuration: optional inputs")
def option(target: Target) -> None:
    """Optional inputs may be given (--option)."""
    tensors = [*target.model.tensors(), *target.model.option_tensors()]
    read_response(target.rpc.call("ModelInfer", raw_request(target.model.name, tensors)))


@check("grpc.infer.parameters", MUST, SOURCE + ": parameters")
def parameters(target: Target) -> None:
    """Request parameters that the model knows (--parameter) are taken."""
    known = target.model.hints.parameters
    if not known:
        raise Skip("no parameter is named: --parameter NAME=VALUE")
    request = raw_request(target.model.name, target.model.tensors())
    for name, value in known.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], kind, value)
    target.rpc.call("ModelInfer", request)


@check("grpc.infer.integer_parameters", TRITON, "tritonclient.grpc: priority is uint64_param, timeout int64_param")
def integer_parameters(target: Target) -> None:
    """priority and timeout are taken as clients send them, signed or not."""
    target.requires("schedule_policy")
    for kinds in (("uint64_param", "int64_param"), ("int64_param", "uint64_param")):
        request = raw_request(target.model.name, target.model.tensors())
        for (name, value), kind in zip((("priority", 1), ("timeout", 20_000_000)), kinds, strict=True):
            setattr(request.parameters[name], kind, value)
        target.rpc.call("ModelInfer", request)


@check("grpc.infer.classification", TRITON, "Triton classification extension")
def classification(target: Target) -> None:
    """classification=k gives BYTES of value:index[:label]."""
    target.requires("classification")
    name = target.model.scores().name
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    wanted.parameters["classification"].int64_param = 2
    request = raw_request(target.model.name, target.model.tensors(), outputs=[wanted])
    tensor = read_response(target.rpc.call("ModelInfer", request))[name]
    expect_equal(tensor.datatype, "BYTES", "datatype")
    expect(all(item.count(b":") >= 1 for item in tensor.items), list(tensor.items), "value:index[:label]")


@check("grpc.infer.concurrent", MUST, "gRPC: calls of one channel are independent")
def concurrent(target: Target) -> None:
    """Forty calls at once are each answered with their own id."""
    futures = {
        name: target.rpc.start(raw_request(target.model.name, target.model.tensors(seed=seed), id=name))
        for seed, name in enumerate(f"call-{number}" for number in range(40))
    }
    expect_equal(
        {name: future.result().id for name, future in futures.items()}, {name: name for name in futures}, "ids"
    )


@check("grpc.infer.large_message", TRITON, "clients send messages of up to 2 GiB; gRPC's own limit is 4 MiB")
def large_message(target: Target) -> None:
    """A message above gRPC's default limit of 4 MiB reaches the server, which judges it itself."""
    request = raw_request(target.model.name, target.model.tensors(), id="x" * (5 << 20))
    try:
        response = target.rpc.start(request).result()
        expect_equal(len(response.id), 5 << 20, "length of id")
    except grpc.RpcError as error:
        target.seen.append(error.code().name)
        text = str(error.details())
        expect("larger than max" not in text, text, "an answer, or the server's own refusal")


@check("grpc.infer.deadline", MUST, "gRPC deadlines")
def deadline(target: Target) -> None:
    """A call whose deadline comes at once ends with DEADLINE_EXCEEDED, or has just been answered; the server lives."""
    with contextlib.suppress(Failure):
        target.rpc.call("ModelInfer", _any_request(target), timeout_s=1e-6)
    expect_in(target.seen.pop(), ["DEADLINE_EXCEEDED", "OK"], "code")
    target.rpc.call("ModelInfer", _any_request(target))


@check("grpc.infer.cancel", MUST, "gRPC cancellation")
def cancel(target: Target) -> None:
    """Cancelled calls harm no other."""
    for _ in range(20):
        target.rpc.start(_any_request(target)).cancel()
    started_s = time.monotonic()
    target.rpc.call("ModelInfer", _any_request(target))
    took_s = time.monotonic() - started_s
    expect(took_s < target.rpc.timeout_s / 2, f"an answer after {took_s:.1f} s", "one without delay")


def _any_request(target: Target) -> pb.ModelInferRequest:
    return raw_request(target.model.name, target.model.tensors())
