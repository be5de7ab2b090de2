"""Parses JSON, but only documents whose parsing cannot take long.

The parser holds the interpreter lock while it runs, in any thread: 20 MB of `[],[],[],` would stop the event loop for
two seconds. So the cost of a document is estimated first, at a few nanoseconds a byte. Its depth is checked afterwards;
the parser itself refuses what is nested much deeper.
"""

from typing import Any

import orjson

from server.errors import BadRequest, PayloadTooLarge
from server.settings import JsonLimits

STRUCTURE_WEIGHT = 8
"""How many numbers cost as much to parse as one list, object or key; measured as 8 to 15."""
TEXT_BYTES = 25
"""How many bytes of any kind cost as much to parse as one number; measured as 2 ns a byte and 50 ns a number."""
_TOO_DEEP = "depth limit exceeded"
_NESTING = frozenset({list, dict})


def read_json(text: bytes, limits: JsonLimits) -> Any:
    """Parse a document.

    Raises: PayloadTooLarge if it holds more than `max_values`, where a list, an object or a key counts as
    `STRUCTURE_WEIGHT`, or more than `TEXT_BYTES` bytes for each of them; BadRequest if it is nested deeper than
    `max_depth`; orjson.JSONDecodeError if it is no JSON.
    """
    max_bytes = TEXT_BYTES * limits.max_values
    if len(text) > max_bytes:
        raise PayloadTooLarge(
            "bytes of JSON", len(text), f"at most {max_bytes}: send images raw or in a form, tensors in binary form"
        )
    if STRUCTURE_WEIGHT * len(text) > limits.max_values:
        cost = text.count(b",") + STRUCTURE_WEIGHT * (text.count(b"[") + text.count(b"{") + text.count(b":"))
        if cost > limits.max_values:
            expected = f"at most {limits.max_values}, where a list, an object or a key counts as {STRUCTURE_WEIGHT}"
            raise PayloadTooLarge("JSON values", cost, f"{expected}: send tensors in binary form, or less at once")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if error.msg == _TOO_DEEP:
            raise _too_deep(limits.max_depth) from error
        raise
    # A document that opens no more lists and objects than that cannot be deeper.
    if text.count(b"[") + text.count(b"{") > limits.max_depth and _is_deeper(document, limits.max_depth):
        raise _too_deep(limits.max_depth)
    return document


def _is_deeper(document: Any, max_depth: int) -> bool:
    """Say whether a document has more than `max_depth` levels; Python code, so other threads may run meanwhile."""
    level = [document] if type(document) in _NESTING else []
    for _ in range(max_depth):
        inner: list[Any] = []
        for node in level:
            inner += [each for each in (node.values() if type(node) is dict else node) if type(each) in _NESTING]
        if not inner:
            return False
        level = inner
    return True


def _too_deep(max_depth: int) -> BadRequest:
    return BadRequest("depth of the JSON", f"more than {max_depth}", f"at most {max_depth} levels of lists and objects")
