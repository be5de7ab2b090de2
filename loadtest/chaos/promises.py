"""Checks of what the server promises, and the errors of a scenario that fails or cannot run here."""


class Broken(Exception):
    """A promise that the server did not keep."""


class Skipped(Exception):
    """A part that this machine lacks and the scenario needs."""


def promise(is_kept: bool, got: object, expected: str) -> None:
    """Return if a promise is kept.

    Raises: Broken.
    """
    if not is_kept:
        raise Broken(f"got {got}; expected {expected}")
