"""What export refuses, in one line."""

from typing import Self


class ExportError(Exception):
    """A run that cannot be published; its text is `<what>; got <offending value>; expected <...>`."""

    @classmethod
    def of(cls, what: str, got: object, expected: str) -> Self:
        return cls(f"{what}; got {got}; expected {expected}")
