"""JSON from strangers: parsed only where parsing it cannot hold up everyone else.

The parser keeps the interpreter to itself while it runs, in whatever thread: 20 MB of `[],[],[],` would stop the event
loop for two seconds. So what a document will cost is counted first, at a few nanoseconds a byte. Nesting is bounded by
the parser itself, at 1024 levels.
"""

from typing import Any

import orjson

from server.errors import PayloadTooLarge

STRUCTURE_WEIGHT = 8
"""What a list, an object or a key costs to parse, in values; measured as 8 to 15 times as much as a number."""


def read_json(text: bytes, *, max_values: int) -> Any:
    """Parse a document.

    Raises: PayloadTooLarge if it holds more than max_values values, where a list, an object or a key counts as
    `STRUCTURE_WEIGHT`; orjson.JSONDecodeError if it is no JSON.
    """
    if STRUCTURE_WEIGHT * len(text) > max_values:
        cost = text.count(b",") + STRUCTURE_WEIGHT * (text.count(b"[") + text.count(b"{") + text.count(b":"))
        if cost > max_values:
            expected = f"at most {max_values}, where a list, an object or a key counts as {STRUCTURE_WEIGHT}"
            raise PayloadTooLarge("JSON values", cost, f"{expected}: send tensors in binary form, or less at once")
    return orjson.loads(text)
