"""How a scenario checks what the server promises, and how it says that it cannot be played here."""


class Broken(Exception):
    """A promise that the server did not keep."""


class Skipped(Exception):
    """What this machine does not have, so that a scenario cannot be played."""


def promise(is_kept: bool, got: object, expected: str) -> None:
    """Return if a promise is kept.

    Raises: Broken.
    """
    if not is_kept:
        raise Broken(f"got {got}; expected {expected}")
