"""Limits the memory of HTTP bodies and gRPC messages: of each one, and of all of them together."""

from math import inf

from server.errors import Overloaded

UNCOUNTED_BYTES = 64 * 1024
"""The first bytes of each body do not count: the limit on connections bounds them, and small requests always pass."""
_RETRY_AFTER_S = 1.0


class BodyMemory:
    """Counts the bytes of all bodies and messages that the server holds, less the first ones of each.

    A body counts as its bytes arrive; its Content-Length alone counts nothing.
    """

    __slots__ = ("held_bytes", "max_body_bytes", "max_held_bytes")

    def __init__(self, max_body_bytes: int, max_held_bytes: float = inf) -> None:
        self.max_body_bytes, self.max_held_bytes = max_body_bytes, max_held_bytes
        self.held_bytes = 0

    def grow(self, held_bytes: int, body_bytes: int, free_bytes: int = UNCOUNTED_BYTES) -> int:
        """Count a body that has grown to `body_bytes`, of which `held_bytes` were counted; return what is counted now.

        The first `free_bytes` of it do not count.
        Raises: Overloaded if all bodies together would hold more than they may; then nothing changes.
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
