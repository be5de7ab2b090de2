import time

import pytest

from server.errors import (
    STATUS,
    BackendFailed,
    BadRequest,
    NotAnImage,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    ServeError,
    all_errors,
    status_of,
)


def test_message_says_what_got_and_expected():
    assert str(BadRequest("max_tape", -1, "at least 0")) == "max_tape; got -1; expected at least 0"


def test_message_leaves_out_what_is_not_known():
    assert str(BadRequest("empty body")) == "empty body"
    assert str(NotFound("path", expected="a known one")) == "path; expected a known one"


def test_long_offending_values_are_cut():
    assert len(str(BadRequest("max_tape", "x" * 10_000, "an integer"))) < 200


VALUES = {
    "[1e-07, 1e-07, ": [1e-7] * 1_000_000,
    "['\\x01\\x01": ["\x01" * 20_000_000],
    "{'0': 0, '1': 1, ": {str(number): number for number in range(500_000)},
    "[[[0, 0, ": [[[0] * 1000] * 1000] * 1000,
}


@pytest.mark.parametrize("start", VALUES)
def test_a_large_value_is_shown_as_far_as_it_is_shown(start):
    started_s = time.thread_time()
    text = str(BadRequest("max_tape", VALUES[start], "an integer"))
    assert time.thread_time() - started_s < 0.02
    assert text.startswith(f"max_tape; got {start}")
    assert text.endswith("…; expected an integer")
    assert len(text) < 200


@pytest.mark.parametrize("value", [[], {}, [1, "a", None], {"a": [1, {"b": b"c"}]}, (1, 2), 1.5])
def test_a_small_value_is_shown_whole(value):
    assert str(BadRequest("x", value)) == f"x; got {value!r}"


def test_names_of_a_callers_own_are_cut():
    assert len(str(BadRequest(f"input {'a' * 1_000_000}", 1, "2"))) < 500


@pytest.mark.parametrize(
    ("error", "status"),
    [(PayloadTooLarge("x"), 413), (NotAnImage("x"), 415), (Overloaded("x"), 503), (BackendFailed("x"), 500)],
)
def test_status_is_that_of_the_nearest_row(error, status):
    assert status_of(error) == status


def test_an_error_outside_the_table_is_an_internal_one():
    assert status_of(ServeError("x")) == 500


def test_every_error_but_the_root_has_a_status_and_a_reason_of_its_own():
    errors = [error for error in all_errors() if error.__module__ == ServeError.__module__]
    assert len({error.reason for error in errors}) == len(errors)
    assert all(any(base in STATUS for base in error.__mro__) for error in errors[1:])


def test_retry_after_rides_along():
    assert Overloaded("server", retry_after_s=1.5).retry_after_s == 1.5
