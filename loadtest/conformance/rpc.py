"""gRPC calls of the protocol; messages are the clients' own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from loadtest.conformance.expect import Failure, expect, expect_in
from loadtest.conformance.tensors import BYTES, Tensor, from_raw

CODES = grpc.StatusCode
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


class _Showing(  # grpc has no types
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Adds metadata to every call."""

    def __init__(self, shown: Mapping[str, str]) -> None:
        self._shown = tuple(shown.items())

    def _call(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(details._replace(metadata=(*(details.metadata or ()), *self._shown)), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _call


class Rpc:
    """A server's gRPC address. `note` hears the status code of every call; `shown` is metadata of every call."""

    def __init__(
        self, address: str, timeout_s: float, note: Callable[[str], None], shown: Mapping[str, str] = {}
    ) -> None:
        self.timeout_s = timeout_s
        self._note = note
        limits = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        channel = grpc.insecure_channel(address, options=limits)
        self.channel = grpc.intercept_channel(channel, _Showing(shown)) if shown else channel
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def call(self, name: str, request: Any, timeout_s: float | None = None) -> Any:
        """Make a unary call of the inference service.

        Raises: Failure if it ends in an error.
        """
        return self.settle(getattr(self._stub, name), request, timeout_s)

    def settle(self, method: Callable[..., Any], request: Any, timeout_s: float | None = None) -> Any:
        """Make any unary call.

        Raises: Failure if it ends in an error.
        """
        try:
            response = method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            self._note(error.code().name)
            raise Failure(f"got {error.code().name} {error.details()!r}; expected OK") from error
        self._note("OK")
        return response

    def refused(self, name: str, request: Any, allowed: Sequence[grpc.StatusCode]) -> str:
        """Make a call that the server has to refuse; return its message.

        Raises: Failure if it answers, or with another code.
        """
        return self.refused_by(getattr(self._stub, name), request, allowed)

    def refused_by(self, method: Callable[..., Any], request: Any, allowed: Sequence[grpc.StatusCode]) -> str:
        """Make any call that the server has to refuse; return its message."""
        try:
            method(request, timeout=self.timeout_s)
        except grpc.RpcError as error:
            self._note(error.code().name)
            expect_in(error.code().name, [code.name for code in allowed], f"{error.details()!r} with code")
            return str(error.details())
        self._note("OK")
        raise Failure(f"got OK; expected {' or '.join(code.name for code in allowed)}")

    def stream(self, requests: Iterable[Any]) -> list[Any]:
        """Send requests over one stream, end it, and return every response.

        Raises: Failure if the stream ends in an error.
        """
        try:
            responses = list(self._stub.ModelStreamInfer(iter(requests), timeout=self.timeout_s))
        except grpc.RpcError as error:
            self._note(error.code().name)
            raise Failure(f"got {error.code().name} {error.details()!r}; expected the stream to end well") from error
        self._note("OK")
        return responses

    def open_stream(self, requests: Iterable[Any]) -> Any:
        """Open a stream and return its call, to be read or cancelled."""
        return self._stub.ModelStreamInfer(iter(requests), timeout=self.timeout_s)

    def start(self, request: Any) -> Any:
        """Begin a ModelInfer and return its future."""
        return self._stub.ModelInfer.future(request, timeout=self.timeout_s)


def raw_request(model: str, inputs: Sequence[Tensor], **fields: Any) -> Any:
    """Return a ModelInferRequest with raw contents."""
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[_bare(tensor) for tensor in inputs],
        raw_input_contents=[tensor.to_raw() for tensor in inputs],
        **fields,
    )


def typed_request(model: str, inputs: Sequence[Tensor], **fields: Any) -> Any:
    """Return a ModelInferRequest with typed contents."""
    request = pb.ModelInferRequest(model_name=model, inputs=[_bare(tensor) for tensor in inputs], **fields)
    for made, tensor in zip(request.inputs, inputs, strict=True):
        getattr(made.contents, _CONTENTS[tensor.datatype]).extend(tensor.items)
    return request


def read_response(response: Any) -> dict[str, Tensor]:
    """Return the outputs of a ModelInferResponse.

    Raises: Failure unless all of them are raw and of the right size.
    """
    raws = response.raw_output_contents
    got = f"{len(raws)} raw contents for {len(response.outputs)} outputs"
    expect(len(raws) == len(response.outputs), got, "one an output: clients read no others")
    pairs = zip(response.outputs, raws, strict=True)
    return {output.name: from_raw(output.name, output.datatype, output.shape, raw) for output, raw in pairs}


def _bare(tensor: Tensor) -> Any:
    return pb.ModelInferRequest.InferInputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
