"""ModelStreamInfer."""

import queue

import grpc
from tritonclient.grpc import service_pb2 as pb

from loadtest.conformance.expect import expect, expect_equal
from loadtest.conformance.registry import TRITON, check
from loadtest.conformance.rpc import raw_request, read_response
from loadtest.conformance.target import Target
from loadtest.conformance.tensors import are_close

SOURCE = "Triton gRPC: ModelStreamInfer"
FINAL = "triton_final_response"


def request(target: Target, name: str, model: str | None = None) -> pb.ModelInferRequest:
    """Return a sound request with an id."""
    return raw_request(model or target.model.name, target.model.tensors(), id=name)


@check("grpc.stream.one", TRITON, SOURCE)
def one(target: Target) -> None:
    """A stream of one request has one response, that of ModelInfer."""
    responses = target.rpc.stream([request(target, "1")])
    expect_equal(len(responses), 1, "responses:")
    (response,) = responses
    expect_equal(response.error_message, "", "error_message")
    outputs = read_response(response.infer_response)
    for name, tensor in read_response(target.rpc.call("ModelInfer", request(target, "1"))).items():
        expect(are_close(outputs[name], tensor), f"another {name}", "the answer of ModelInfer")


@check("grpc.stream.many", TRITON, SOURCE)
def many(target: Target) -> None:
    """A stream of twenty requests has a response for each id."""
    names = [f"stream-{number}" for number in range(20)]
    responses = target.rpc.stream([request(target, name) for name in names])
    expect_equal(sorted(response.infer_response.id for response in responses), sorted(names), "ids")


@check("grpc.stream.empty", TRITON, SOURCE)
def empty(target: Target) -> None:
    """A stream without requests ends well."""
    expect_equal(target.rpc.stream([]), [], "responses")


@check("grpc.stream.error", TRITON, SOURCE + ": error_message")
def error(target: Target) -> None:
    """A request that fails has an error_message, and the stream goes on."""
    responses = target.rpc.stream([request(target, "1"), request(target, "2", "no_such_model"), request(target, "3")])
    failed = [response for response in responses if response.error_message]
    expect_equal(len(failed), 1, "responses with error_message:")
    answered = sorted(response.infer_response.id for response in responses if not response.error_message)
    expect_equal(answered, ["1", "3"], "ids answered")


@check("grpc.stream.error_id", TRITON, SOURCE + ": a client matches errors by id")
def error_id(target: Target) -> None:
    """A failed request's response has its id."""
    responses = target.rpc.stream([request(target, "lost", "no_such_model")])
    expect_equal([response.infer_response.id for response in responses], ["lost"], "ids")


@check("grpc.stream.final", TRITON, SOURCE + ": triton_enable_empty_final_response")
def final(target: Target) -> None:
    """triton_enable_empty_final_response is taken; the last response of a request says that it is."""
    asked = request(target, "1")
    asked.parameters["triton_enable_empty_final_response"].bool_param = True
    responses = target.rpc.stream([asked])
    flags = [response.infer_response.parameters[FINAL].bool_param for response in responses]
    expect(flags[-1:] == [True], f"{FINAL} {flags}", "true on the last")


@check("grpc.stream.interleaved", TRITON, SOURCE)
def interleaved(target: Target) -> None:
    """A response comes before the stream of requests ends."""
    waiting: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    call = target.rpc.open_stream(iter(waiting.get, None))
    try:
        for name in ("1", "2"):
            waiting.put(request(target, name))
            expect_equal(next(call).infer_response.id, name, "id")
    finally:
        waiting.put(None)
        call.cancel()


@check("grpc.stream.cancel", TRITON, SOURCE)
def cancel(target: Target) -> None:
    """A stream that is cancelled harms no other."""
    call = target.rpc.open_stream([request(target, str(number)) for number in range(20)])
    call.cancel()
    try:
        list(call)
    except grpc.RpcError as error:
        expect_equal(error.code().name, "CANCELLED", "code")
    expect_equal(len(target.rpc.stream([request(target, "after")])), 1, "responses:")
