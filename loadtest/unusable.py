"""What ends a command before it has measured anything, and how a command says so."""

import sys
from collections.abc import Callable

MISSED, UNUSABLE = 1, 2
"""Exit statuses: a threshold was missed; nothing could be measured."""


class Unusable(Exception):
    """Says what cannot be used in one line: `<what>; got <value>; expected <...>`."""

    def __init__(self, what: str, got: object, expected: str) -> None:
        super().__init__(f"{what}; got {got}; expected {expected}")


def exit_with(command: Callable[[], int]) -> None:
    """Run a command and exit with its status, or with one line on stderr where it could not do its work."""
    try:
        status = command()
    except Unusable as error:
        print(error, file=sys.stderr)
        status = UNUSABLE
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status = 130
    sys.exit(status)
