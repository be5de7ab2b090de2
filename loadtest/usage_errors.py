"""The error of a command that cannot measure anything, and the exit statuses of commands."""

import sys
from collections.abc import Callable

MISSED, USAGE_ERROR = 1, 2
"""Exit statuses: a threshold was missed; nothing could be measured."""


class UsageError(Exception):
    """An option, file or server cannot be used. The message is one line: `<what>; got <value>; expected <...>`."""

    def __init__(self, what: str, got: object, expected: str) -> None:
        super().__init__(f"{what}; got {got}; expected {expected}")


def exit_with(command: Callable[[], int]) -> None:
    """Run a command and exit with its status, or with one line on stderr where it could not do its work."""
    try:
        status = command()
    except UsageError as error:
        print(error, file=sys.stderr)
        status = USAGE_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status = 130
    sys.exit(status)
