"""The gRPC port: messages that Hypothesis composes, messages of any bytes, and bytes that are no HTTP/2."""

import socket
import struct
from contextlib import suppress
from typing import Any, Self

import grpc
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from tests.fuzz import shapes
from tests.fuzz.results import TargetResult
from tests.server.oip_grpc.raw_http2 import raw_field

SERVICE = "/inference.GRPCInferenceService/"
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig",
    "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "TraceSetting", "LogSettings", "ModelStreamInfer",
    "SystemSharedMemoryStatus", "NoSuchMethod",
)  # fmt: skip
HANG_S = 10.0
UNEXPECTED = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)

_parameter = st.one_of(
    st.builds(pb.InferParameter, int64_param=_INT64),
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, string_param=st.text(max_size=20)),
    st.builds(pb.InferParameter, double_param=st.floats()),
    st.just(pb.InferParameter()),
)
_parameters = st.dictionaries(
    st.sampled_from([*shapes.NAMES, "timeout", "progressive", "binary_data_size", "classification"]),
    _parameter,
    max_size=3,
)
_contents = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=2),
    int_contents=st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=3),
    uint_contents=st.lists(st.integers(0, 300), max_size=3),
    fp32_contents=st.lists(st.floats(width=32), max_size=2),
    bytes_contents=st.lists(st.sampled_from(shapes.PICTURES) | st.binary(max_size=8), max_size=2),
)
_input = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["image", "encoded", "max_tape", "", "x"]),
    datatype=st.sampled_from(["UINT8", "BYTES", "INT32", "FP32", "", "uint8"]),
    shape=st.lists(st.sampled_from([0, 1, 2, 8, 32, -1, 1 << 40]), max_size=5),
    parameters=_parameters,
    contents=_contents,
)
_output = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor,
    name=st.sampled_from(["logits", "probabilities", "flops", "", "x"]),
    parameters=_parameters,
)
_raw = st.binary(max_size=40) | st.sampled_from([struct.pack("<I", len(data)) + data for data in shapes.PICTURES])


def calls(model: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """Return the name of a method and the bytes of its message."""
    infer = st.builds(
        pb.ModelInferRequest,
        model_name=st.sampled_from([model, model, model, "", "x"]),
        model_version=st.sampled_from(["", "", "1", "stable", "-1", "x"]),
        id=st.text(max_size=10),
        inputs=st.lists(_input, max_size=3),
        outputs=st.lists(_output, max_size=2),
        parameters=_parameters,
        raw_input_contents=st.lists(_raw, max_size=2),
    ).map(lambda message: message.SerializeToString())
    others = st.tuples(st.sampled_from(METHODS), st.binary(max_size=60))
    return st.one_of(
        st.tuples(st.just("ModelInfer"), infer), st.tuples(st.just("ModelInfer"), shapes.broken(infer)), others
    )


class Caller:
    """One channel whose messages are bytes as they are."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def send(self, method: str, message: bytes, result: TargetResult) -> None:
        """Make one call and judge its outcome."""
        try:
            if method == "ModelStreamInfer":
                list(self._channel.stream_stream(SERVICE + method, **_AS_BYTES)(iter([message]), timeout=HANG_S))
            else:
                self._channel.unary_unary(SERVICE + method, **_AS_BYTES)(message, timeout=HANG_S)
        except grpc.RpcError as error:
            result.add(error.code().name, _fault(error, method, message))
        else:
            result.add("OK")


_AS_BYTES: dict[str, Any] = {"request_serializer": None, "response_deserializer": None}


def _fault(error: Any, method: str, message: bytes) -> str | None:
    case = f"{method} {message[:300]!r}: {error.code().name} {error.details()!r}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and "deadline;" not in error.details():
        return f"no answer within {HANG_S:g} s: {case}"
    return case if error.code() in UNEXPECTED else None


def frames() -> st.SearchStrategy[bytes]:
    """Return what may come after, or instead of, the preface of HTTP/2."""
    kinds = st.sampled_from([*range(10), 255])
    frame = st.builds(
        _frame, kinds, st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 1 << 31]), st.binary(max_size=40)
    )
    whole = st.lists(frame, max_size=5).map(lambda parts: PREFACE + _frame(4, 0, 0, b"") + b"".join(parts))
    return shapes.broken(whole) | st.binary(max_size=100) | _calls_of_any_bytes()


def _calls_of_any_bytes() -> st.SearchStrategy[bytes]:
    """Return calls that are sound but for the bytes of their method's name, metadata and message."""
    word = st.binary(max_size=20)
    method = st.sampled_from([SERVICE.encode() + name.encode() for name in METHODS]) | word.map(lambda end: b"/" + end)
    name = st.sampled_from([b"x-api-key", b"authorization", b"traceparent", b"grpc-timeout", b"user-agent"]) | word
    return st.builds(_call, method, st.lists(st.tuples(name, word), max_size=3), word)


def _call(method: bytes, metadata: list[tuple[bytes, bytes]], message: bytes) -> bytes:
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", method),
        (b":authority", b"x"),
        (b"te", b"trailers"),
    ]
    fields = [*usual, (b"content-type", b"application/grpc"), *metadata]
    head = b"".join(raw_field(*field) for field in fields)
    data = struct.pack(">BI", 0, len(message)) + message
    return PREFACE + _frame(4, 0, 0, b"") + _frame(1, 4, 1, head) + _frame(0, 1, 1, data)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream & 0xFFFFFFFF) + payload


def send_frames(address: tuple[str, int], data: bytes, result: TargetResult) -> None:
    """Send bytes to the gRPC port; it has to end the connection once our side is closed."""
    received = b""
    try:
        with (
            socket.create_connection(address, timeout=HANG_S) as connection,
            suppress(ConnectionResetError, BrokenPipeError),
        ):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(1 << 16):
                received += more
    except TimeoutError:
        result.add("hang", f"no end within {HANG_S:g} s: {data[:300]!r}")
    except ConnectionRefusedError:
        result.add("gone", f"nobody listens any more; next would have been {data[:300]!r}")
    else:
        result.add("frames back" if received else "closed")
