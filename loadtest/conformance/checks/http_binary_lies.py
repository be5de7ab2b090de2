"""Binary requests with wrong lengths: each is refused, and the server still answers."""

from collections.abc import Callable
from functools import partial

from loadtest.conformance.messages import (
    HEADER_LENGTH,
    Message,
    binary_input,
    binary_message,
    encode,
    json_input,
    with_binary,
)
from loadtest.conformance.model import Json
from loadtest.conformance.registry import TRITON, Check, add
from loadtest.conformance.target import Target, expect_refused
from loadtest.conformance.tensors import Tensor

SOURCE = "Triton binary tensor data extension, HTTP"
Lie = Callable[[list[Tensor]], Message]


def header(value: Callable[[int], str]) -> Lie:
    """Return a request whose header length is made from the true one."""

    def lie(tensors: list[Tensor]) -> Message:
        message = binary_message(tensors)
        return Message(message.body, {HEADER_LENGTH: value(int(message.headers[HEADER_LENGTH]))})

    return lie


def size(value: Callable[[int], object]) -> Lie:
    """Return a request whose first binary_data_size is made from the true one."""

    def lie(tensors: list[Tensor]) -> Message:
        fields = [binary_input(tensor) for tensor in tensors]
        fields[0]["parameters"] = {"binary_data_size": value(len(tensors[0].to_raw()))}
        return with_binary(encode({"inputs": fields}), [tensor.to_raw() for tensor in tensors])

    return lie


def body(change: Callable[[bytes], bytes]) -> Lie:
    """Return a request whose body is another than its sizes say."""

    def lie(tensors: list[Tensor]) -> Message:
        message = binary_message(tensors)
        return Message(change(message.body), message.headers)

    return lie


def both(tensors: list[Tensor]) -> Message:
    """Return a request whose first input has its data twice."""
    fields: list[Json] = [binary_input(tensor) for tensor in tensors]
    fields[0]["data"] = json_input(tensors[0])["data"]
    return with_binary(encode({"inputs": fields}), [tensor.to_raw() for tensor in tensors])


def without_header(tensors: list[Tensor]) -> Message:
    """Return a binary request that does not say where its document ends."""
    return Message(binary_message(tensors).body, {})


LIES: tuple[tuple[str, str, Lie], ...] = (
    ("header_length_negative", "A negative header length", header(lambda _: "-1")),
    ("header_length_beyond_body", "A header length beyond the body", header(lambda n: str(n + 10**9))),
    ("header_length_overflow", "A header length beyond 64 bits", header(lambda _: "9" * 40)),
    ("header_length_not_a_number", "A header length that is no number", header(lambda _: "many")),
    ("header_length_fraction", "A header length with a fraction", header(lambda n: f"{n}.5")),
    ("header_length_short", "A header length that cuts the document", header(lambda n: str(n - 1))),
    ("header_length_long", "A header length that takes in tensor data", header(lambda n: str(n + 1))),
    ("size_short", "A binary_data_size below the shape's", size(lambda n: n - 1)),
    ("size_long", "A binary_data_size above the shape's", size(lambda n: n + 1)),
    ("size_negative", "A negative binary_data_size", size(lambda _: -1)),
    ("size_huge", "A binary_data_size of 2^62", size(lambda _: 2**62)),
    ("size_wraps", "A binary_data_size that wraps around 64 bits", size(lambda n: 2**64 + n)),
    ("size_not_a_number", "A binary_data_size that is a string", size(str)),
    ("size_fraction", "A binary_data_size with a fraction", size(lambda n: n + 0.5)),
    ("body_truncated", "A body shorter than its sizes", body(lambda whole: whole[:-1])),
    ("body_surplus", "A body longer than its sizes", body(lambda whole: whole + b"\0")),
    ("data_twice", "An input with both data and binary_data_size", both),
    ("no_header_length", "A binary request without the header length", without_header),
)  # fmt: skip


def refuse(lie: Lie, target: Target) -> None:
    """Send a lie, expect it to be refused, and the server to live."""
    target.requires("binary_tensor_data")
    expect_refused(target.infer(lie(target.model.tensors())))
    target.is_alive()


for _name, _what, _lie in LIES:
    add(Check(f"http.binary.{_name}", TRITON, f"{_what} is refused.", SOURCE, partial(refuse, _lie)))
