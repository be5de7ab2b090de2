"""Memory that the allocator keeps for later, given back to the system."""

import ctypes
from collections.abc import Callable
from functools import cache


def trim() -> None:
    """Give back what the C library holds and nobody uses, where it can: glibc keeps tens of megabytes of a model.

    Takes milliseconds, without the interpreter lock. Other C libraries give back by themselves, or never.
    """
    malloc_trim = _malloc_trim()
    if malloc_trim is not None:
        malloc_trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
