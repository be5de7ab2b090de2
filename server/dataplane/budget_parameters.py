"""Turns request parameters into a budget: ours, and the protocol's own `priority` and `timeout`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from server.errors import BadRequest, DeadlineExceeded
from server.params import BUDGET, BY_NAME, Parameter, to_natural, to_request_limits
from server.records import Priority, RequestLimits

PRIORITIES = {1: Priority.HIGH, 2: Priority.NORMAL, 3: Priority.LOW}
DEFAULT_PRIORITY = 2
_US = 1e-6

_PROTOCOL = (
    Parameter(
        "priority", to_natural, "an integer: 1 high, 2 normal, 3 low, 0 for the default", {}, "Who goes first.", 1
    ),
    Parameter("timeout", to_natural, "a whole number of microseconds, 0 for none", {}, "As deadline_ms.", 50_000),
)
HEADERS = {**BUDGET, "priority": BY_NAME["priority"]}
"""Parameters that may come as headers, for tools that cannot set others; a priority has a name there, as on `/v1`."""
KNOWN = {**BUDGET, **{parameter.name: parameter for parameter in _PROTOCOL}}
OTHERS = frozenset({"binary_data_output", "content_type", "headers", "triton_enable_empty_final_response"})
"""Parameters that the transports or other servers' clients use, and that the engine ignores."""

_NOTHING = RequestLimits()


def read_request_limits(
    parameters: Mapping[str, Any], defaults: Mapping[str, Any], time_left_s: float | None
) -> RequestLimits:
    """Return the budget of a request; `defaults` are parsed already, and the nearest of several deadlines counts.

    Raises: BadRequest for an unknown parameter or a wrong value; DeadlineExceeded if no time is left.
    """
    if not parameters and not defaults and time_left_s is None:
        return _NOTHING
    values = {**defaults, **{name: _read(name, value) for name, value in parameters.items() if name not in OTHERS}}
    ask, timeout_us = to_request_limits(values), values.get("timeout")
    if time_left_s is not None and time_left_s <= 0:
        raise DeadlineExceeded("deadline", f"{time_left_s:g} s left", "more than 0 s")
    deadlines_s = [ask.deadline_s, timeout_us * _US if timeout_us else None, time_left_s]
    return replace(
        ask,
        deadline_s=min((deadline_s for deadline_s in deadlines_s if deadline_s is not None), default=None),
        priority=_to_priority(values.get("priority", DEFAULT_PRIORITY)),
    )


def _read(name: str, value: object) -> Any:
    if name not in KNOWN:
        raise BadRequest("unknown request parameter", name, f"any of {', '.join(KNOWN)}")
    return KNOWN[name].read(value, "request parameters")


def _to_priority(value: int | Priority) -> Priority:
    return value if isinstance(value, Priority) else PRIORITIES.get(value, PRIORITIES[DEFAULT_PRIORITY])
