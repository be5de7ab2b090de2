"""The table of request parameters: it parses, documents and names them for every surface.

On `/v1` each may come in the query, in the body (a JSON field or a form field) or in a header (`max_tape` as
`X-Max-Tape`). Where a parameter comes more than once, the query wins over the body, and the body over the header: the
closest to what a person typed for this one request wins.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import BadRequest
from server.records import Priority

_MIN_DEADLINE_MS = 0.001
_NATURAL = re.compile(r"[0-9]{1,300}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: `parse` returns None for a value that is not as `expected` says."""

    name: str
    parse: Callable[[object], Any]
    expected: str
    schema: Mapping[str, Any]
    description: str
    example: Any

    @property
    def header(self) -> str:
        return "X-" + "-".join(part.capitalize() for part in self.name.split("_"))

    def read(self, value: object, place: str) -> Any:
        """Return the parsed value.

        Raises: BadRequest with the value and what was expected.
        """
        parsed = self.parse(value)
        if parsed is None:
            got = {"": "an empty value", None: "null"}.get(value, value) if isinstance(value, str | None) else value
            raise BadRequest(f"{self.name} in the {place}", got, self.expected)
        return parsed


def _to_text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _to_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _to_positive(value: object) -> float | None:
    number = _to_number(value)
    return number if number is not None and number > 0 else None


def _to_deadline(value: object) -> float | None:
    number = _to_number(value)
    return number if number is not None and number >= _MIN_DEADLINE_MS else None


def _to_fraction(value: object) -> float | None:
    number = _to_number(value)
    return number if number is not None and 0 <= number <= 1 else None


def to_natural(value: object) -> int | None:
    """Return an integer of at least 0, from a number or its text; None for anything else."""
    if isinstance(value, str):
        return int(value) if _NATURAL.fullmatch(value) else None
    number = _to_number(value)
    return int(number) if number is not None and number >= 0 and number.is_integer() else None


def _to_count(value: object) -> int | None:
    return to_natural(value) or None


def _to_priority(value: object) -> Priority | None:
    return Priority(value) if isinstance(value, str) and value in set(Priority) else None


_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def _to_flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else _FLAGS.get(value.lower()) if isinstance(value, str) else None


PARAMETERS = (
    Parameter(
        "model",
        _to_text,
        "the name of a model",
        {"type": "string", "minLength": 1},
        "Which model answers; the first by name if you name none. `GET /v1/models` lists them.",
        "adatape_cifar10",
    ),
    Parameter(
        "version",
        _to_text,
        "the number of a version, stable or canary",
        {"type": "string", "minLength": 1},
        "Which version of the model answers: its number, or its label, `stable` or `canary`. Without it the stable one "
        "does, which is the newest unless labels say otherwise, and a canary its share.",
        "1",
    ),
    Parameter(
        "max_tape",
        to_natural,
        "an integer, 0 or more",
        {"type": "integer", "minimum": 0},
        "Most tape tokens an image may read: the compute cap. 0 reads none and is cheapest; more than "
        "the model's tape capacity means no cap.",
        8,
    ),
    Parameter(
        "max_flops",
        _to_positive,
        "a number above 0",
        {"type": "number", "exclusiveMinimum": 0},
        "Most useful FLOPs an image may cost (a multiply-add counts as 2); turned into the largest cap that keeps it.",
        50_000_000,
    ),
    Parameter(
        "deadline_ms",
        _to_deadline,
        f"a number of milliseconds, {_MIN_DEADLINE_MS} or more",
        {"type": "number", "minimum": _MIN_DEADLINE_MS},
        "The answer is worthless after this many milliseconds; a request that cannot make it is refused with 504.",
        500,
    ),
    Parameter(
        "priority",
        _to_priority,
        "high, normal or low",
        {"type": "string", "enum": [priority.value for priority in Priority], "default": "normal"},
        "Who goes first when requests wait. Low is overtaken by what comes within ten seconds after it.",
        "high",
    ),
    Parameter(
        "min_accuracy",
        _to_fraction,
        "a fraction from 0 to 1",
        {"type": "number", "minimum": 0, "maximum": 1},
        "Spend only as much as the model's quality curve says this accuracy needs.",
        0.7,
    ),
    Parameter(
        "top_k",
        _to_count,
        "an integer, 1 or more",
        {"type": "integer", "minimum": 1, "default": 5},
        "How many classes to return, most probable first; never more than the model has.",
        3,
    ),
    Parameter(
        "explain",
        _to_flag,
        "true or false",
        {"type": "boolean", "default": False},
        "Also return which bank patches each tape token read.",
        False,
    ),
)  # fmt: skip
Known = Mapping[str, Parameter]
BY_NAME: Known = {parameter.name: parameter for parameter in PARAMETERS}
BUDGET: Known = {name: BY_NAME[name] for name in ("max_tape", "max_flops", "deadline_ms", "min_accuracy")}
