"""Bodies of the binary extension: they are read back as written; short bodies and false headers are refused."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.dataplane.tensors import DTYPES, numbers_from_raw
from server.errors import BadRequest
from server.oip.infer_body import InferBody, read_header_length, read_infer_body
from server.settings import JsonLimits

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
TENSORS = st.lists(
    st.tuples(st.sampled_from(sorted(DTYPES)), st.booleans()).flatmap(
        lambda kind: st.tuples(st.just(kind[0]), st.just(kind[1]), arrays.arrays(DTYPES[kind[0]], SHAPES))
    ),
    min_size=1,
    max_size=4,
)
NAMES = st.text(max_size=6)
LIMITS = JsonLimits(max_values=100_000, max_depth=64)


@dataclass
class Body:
    """A sound body, and what it was made of."""

    tensors: list[tuple[str, bool, np.ndarray]]
    document: dict[str, Any]

    @property
    def binary(self) -> bytes:
        return b"".join(array.tobytes() for _, is_binary, array in self.tensors if is_binary)

    def packed(self) -> tuple[bytes, str]:
        document = orjson.dumps(self.document)
        return document + self.binary, str(len(document))


def to_body(tensors: list[tuple[str, bool, np.ndarray]], name: str) -> Body:
    inputs = []
    for index, (datatype, is_binary, array) in enumerate(tensors):
        fields = {"name": f"{name}{index}", "datatype": datatype, "shape": list(array.shape)}
        part = {"parameters": {"binary_data_size": array.nbytes}} if is_binary else {"data": [0] * array.size}
        inputs.append({**fields, **part})
    return Body(tensors, {"id": name, "inputs": inputs})


BODIES = st.builds(to_body, TENSORS, NAMES)


def read(content: bytes, length: str | None) -> InferBody:
    return read_infer_body(content, read_header_length(length, len(content)), LIMITS)


def check_round_trip(body: Body) -> None:
    message = read(*body.packed())
    assert message.document.id == body.document["id"]
    for (datatype, is_binary, array), found in zip(body.tensors, message.inputs, strict=True):
        assert (found.datatype, tuple(found.shape)) == (datatype, array.shape)
        if is_binary:
            assert found.raw is not None
            back = numbers_from_raw("x", found.raw, datatype, array.shape)
            assert (back.dtype, back.tobytes()) == (array.dtype, array.tobytes())
        else:
            assert list(found.values) == [0] * array.size


def check_cut(body: Body, share: float) -> None:
    """No body that ends too early is taken for a whole one."""
    content, length = body.packed()
    with pytest.raises(BadRequest, match=r"got .*; expected "):
        read(content[: int(share * len(content))], length)


def check_lying_length(body: Body, length: int) -> None:
    """The document ends where the header says, or the request is refused: bytes move from one to the other nowhere."""
    content, true_length = body.packed()
    message = None
    with contextlib.suppress(BadRequest):
        message = read(content, str(length))
    if message is not None:
        assert length == int(true_length)
        assert sum(len(found.raw) for found in message.inputs if found.raw is not None) == len(body.binary)


def check_lying_size(body: Body, which: int, size: int) -> None:
    """A size other than the true one is refused where the sizes no longer add up, and for its own tensor else."""
    inputs = [fields for fields in body.document["inputs"] if "parameters" in fields]
    if not inputs:
        return
    liar = inputs[which % len(inputs)]
    true_size, liar["parameters"]["binary_data_size"] = liar["parameters"]["binary_data_size"], size
    content, length = body.packed()
    if size == true_size:
        read(content, length)
    else:
        with pytest.raises(BadRequest, match="binary_data_size"):
            read(content, length)


Check = tuple[Callable[..., None], tuple[Any, ...]]
CHECKS: list[Check] = [
    (check_round_trip, (BODIES,)),
    (check_cut, (BODIES, st.floats(0, 1, exclude_max=True))),
    (check_lying_length, (BODIES, st.integers(0, 400))),
    (check_lying_size, (BODIES, st.integers(0, 3), st.integers(-3, 400) | st.integers(2**62, 2**64 - 1))),
]
MANY = settings(max_examples=10_000)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check[0].__name__)
def test_bodies(check: Check) -> None:
    given(*check[1])(check[0])()


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check[0].__name__)
def test_very_many_bodies(check: Check) -> None:
    MANY(given(*check[1])(check[0]))()


# --- Anything at all ---------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = st.sampled_from(["name", "datatype", "shape", "data", "parameters"])
INPUTS = st.lists(st.dictionaries(FIELDS, JSON, max_size=5) | JSON, max_size=3)


@given(
    document=st.fixed_dictionaries({"inputs": INPUTS}, optional={"outputs": JSON, "parameters": JSON, "id": JSON}),
    binary_part=st.binary(max_size=30),
    length=st.text("0123456789-+ ", max_size=4) | st.none(),
)
def test_any_message_is_understood_or_refused(document, binary_part, length):
    content = orjson.dumps(document) + binary_part
    try:
        message = read_infer_body(content, read_header_length(length, len(content)), LIMITS)
    except BadRequest:
        return
    assert all(isinstance(each.name, str) and isinstance(each.datatype, str) for each in message.inputs)
    assert sum(len(each.raw) for each in message.inputs if each.raw is not None) <= len(binary_part)
