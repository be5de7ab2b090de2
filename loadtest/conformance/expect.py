"""The errors and comparisons of checks."""

from collections.abc import Collection

LIMIT = 160


class Failure(Exception):
    """The server is not as the check says."""


class Skip(Exception):
    """The check does not apply to this server or model."""


def expect(is_met: bool, got: object, expected: str) -> None:
    """Return if a condition is met.

    Raises: Failure.
    """
    if not is_met:
        text = got if isinstance(got, str) else repr(got)
        raise Failure(f"got {text if len(text) <= LIMIT else text[:LIMIT] + '…'}; expected {expected}")


def expect_equal(got: object, expected: object, what: str) -> None:
    """Return if two values are equal and of one type.

    Raises: Failure.
    """
    expect(type(got) is type(expected) and got == expected, f"{what} {got!r}", repr(expected))


def expect_in(got: object, allowed: Collection[object], what: str) -> None:
    """Return if a value is one of several.

    Raises: Failure.
    """
    expect(got in allowed, f"{what} {got!r}", f"one of {sorted(map(str, allowed))}")
