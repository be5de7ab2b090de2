"""The memory that HTTP bodies and gRPC messages take: of each one, and of all together."""

from math import inf

from server.errors import Overloaded

UNCOUNTED_BYTES = 64 * 1024
"""Of each body: the limit on connections bounds these already, and small requests get in however full it is."""
_RETRY_AFTER_S = 1.0


class BodyMemory:
    """What all calls hold of bodies and messages, beyond the beginning of each.

    A body counts as its bytes arrive: one that is only announced takes no room from others.
    """

    __slots__ = ("held_bytes", "max_body_bytes", "max_held_bytes")

    def __init__(self, max_body_bytes: int, max_held_bytes: float = inf) -> None:
        self.max_body_bytes, self.max_held_bytes = max_body_bytes, max_held_bytes
        self.held_bytes = 0

    def grow(self, held_bytes: int, body_bytes: int, free_bytes: int = UNCOUNTED_BYTES) -> int:
        """Return what a body of `body_bytes` so far holds now, having held `held_bytes`; the first ones are free.

        Raises: Overloaded if that is more than there is room for; then it holds what it held.
        """
        wanted_bytes = max(0, body_bytes - free_bytes)
        total_bytes = self.held_bytes + wanted_bytes - held_bytes
        if total_bytes > self.max_held_bytes:
            expected = f"at most {self.max_held_bytes}, or a body of up to {free_bytes}"
            raise Overloaded("bytes of large bodies at once", total_bytes, expected, retry_after_s=_RETRY_AFTER_S)
        self.held_bytes = total_bytes
        return wanted_bytes

    def release(self, held_bytes: int) -> None:
        self.held_bytes -= held_bytes
