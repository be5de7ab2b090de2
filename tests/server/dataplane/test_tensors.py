"""The binary codec: tensors are read back as written, and false bytes are refused before memory is allocated."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.dataplane.tensors import (
    DTYPES,
    OutputTensor,
    join_strings,
    numbers_from_raw,
    numbers_from_values,
    strings_from_raw,
    strings_from_values,
)
from server.errors import BadRequest

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
NUMBERS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: st.tuples(st.just(name), arrays.arrays(DTYPES[name], SHAPES))
)
INTEGERS = st.sampled_from(["UINT8", "INT32", "INT64"]).flatmap(
    lambda name: st.tuples(st.just(name), arrays.arrays(DTYPES[name], SHAPES))
)
STRINGS = st.lists(st.binary(max_size=40), max_size=12)


def check_numbers(case):
    datatype, array = case
    raw = OutputTensor("x", datatype, array.shape, array).to_raw()
    back = numbers_from_raw("x", raw, datatype, array.shape)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert not back.size or np.shares_memory(back, np.frombuffer(raw, np.uint8)), "bytes are viewed, never copied"


def check_strings(strings):
    raw = join_strings(strings)
    assert strings_from_raw("x", raw, [len(strings)]) == strings
    assert len(raw) == sum(map(len, strings)) + 4 * len(strings)


def check_lies(strings, cut, count, raw):
    """Whatever the bytes are: as many strings as announced that fill them exactly, or a clear refusal."""
    for data in (join_strings(strings)[: -1 - cut], raw):
        found = None
        with contextlib.suppress(BadRequest):
            found = strings_from_raw("input x", data, [count])
        if found is not None:
            assert len(found) == count
            assert join_strings(found) == data


test_numbers_come_back = given(NUMBERS)(check_numbers)
test_strings_come_back = given(STRINGS)(check_strings)
test_lies_are_refused = given(STRINGS, st.integers(0, 50), st.integers(0, 20), st.binary(max_size=60))(check_lies)

MANY = settings(max_examples=10_000)
test_numbers_come_back_often = pytest.mark.slow(MANY(given(NUMBERS)(check_numbers)))
test_strings_come_back_often = pytest.mark.slow(MANY(given(STRINGS)(check_strings)))
test_lies_are_refused_often = pytest.mark.slow(
    MANY(given(STRINGS, st.integers(0, 50), st.integers(0, 20), st.binary(max_size=60))(check_lies))
)


@given(INTEGERS)
def test_values_come_back(case):
    datatype, array = case
    back = numbers_from_values("x", array.ravel().tolist(), datatype, array.shape)
    np.testing.assert_array_equal(back, array, strict=True)


@given(NUMBERS, st.integers(-3, 3).filter(bool))
def test_a_size_that_lies_is_refused(case, off_by):
    datatype, array = case
    raw = (array.tobytes() + bytes(3))[: max(0, array.nbytes + off_by)]
    if len(raw) != array.nbytes:
        with pytest.raises(BadRequest, match=f"got {len(raw)} bytes; expected {array.nbytes} bytes"):
            numbers_from_raw("x", raw, datatype, array.shape)


@pytest.mark.parametrize("shape", [[2**40, 32, 32, 3], [2**62 + 1], [2**31, 2**31, 4], [2**200]])
def test_gigantic_shapes_wrap_around_nowhere(shape):
    with pytest.raises(BadRequest):
        numbers_from_raw("x", bytes(4), "UINT8", shape)
    with pytest.raises(BadRequest):
        numbers_from_values("x", [1, 2, 3, 4], "UINT8", shape)
    with pytest.raises(BadRequest):
        strings_from_raw("x", bytes(4), shape)


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        ("UINT8", 256, "integers from 0 to 255"),
        ("UINT8", -1, "integers from 0 to 255"),
        ("INT32", 2**31, "integers from -2147483648 to 2147483647"),
        ("INT64", 2**63, "integers from"),
        ("UINT8", 1.0, "integers"),
        ("UINT8", True, "integers"),
        ("UINT8", None, "integers"),
        ("UINT8", "1", "integers"),
        ("UINT8", [1], "integers"),
    ],
)
def test_values_are_never_narrowed(datatype, value, expected):
    with pytest.raises(BadRequest, match=expected):
        numbers_from_values("x", [0, value, 0], datatype, [3])


@pytest.mark.parametrize("values", [[1], [None], [b"a", 2]])
def test_strings_are_strings(values):
    with pytest.raises(BadRequest, match="strings"):
        strings_from_values("x", values, [len(values)])


def test_text_is_utf_8():
    assert strings_from_values("x", ["é", b"\xff"], [2]) == ["é".encode(), b"\xff"]
    assert OutputTensor("x", "BYTES", [2], ["é".encode(), b"\xff"]).to_values() == ["é", "\ufffd"]
