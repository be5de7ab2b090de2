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
