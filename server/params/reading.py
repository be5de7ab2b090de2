"""Parses and merges the parameters in a request's query, headers and body."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

from server.errors import BadRequest
from server.http.exchange import HttpRequest
from server.params.table import BY_NAME, PARAMETERS, Known
from server.records import RequestLimits

Values = dict[str, Any]
_HEADERS = {parameter.name: parameter.header.lower().encode("ascii") for parameter in PARAMETERS}
_HEADER_NAMES = frozenset(_HEADERS.values())
_DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Options:
    """All parameters of one request, parsed and merged."""

    model: str | None
    version: str | None
    top_k: int
    explain: bool
    ask: RequestLimits


def read_query(request: HttpRequest, known: Known = BY_NAME) -> Values:
    """Parse the query's parameters.

    Raises: BadRequest for an unknown name, a name given twice, or a wrong value.
    """
    if not request.scope["query_string"]:
        return {}
    pairs = parse_qsl(request.query_string, keep_blank_values=True)
    fields = dict(pairs)
    if len(fields) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadRequest("query", f"{name} more than once", "each parameter once")
    return read_fields(fields, "query", known)


def read_headers(request: HttpRequest, known: Known = BY_NAME) -> Values:
    """Parse the parameters that came as headers; other headers are ignored."""
    if request.has_none_of(_HEADER_NAMES):
        return {}
    found = ((parameter, request.header(_HEADERS[name])) for name, parameter in known.items())
    return {
        parameter.name: parameter.read(value, f"header {parameter.header}")
        for parameter, value in found
        if value is not None
    }


def read_fields(fields: Mapping[str, object], place: str, known: Known = BY_NAME) -> Values:
    """Parse named values from one place.

    Raises: BadRequest for an unknown name or a wrong value.
    """
    for name in fields:
        if name not in known:
            raise BadRequest(f"unknown parameter in the {place}", name, f"any of {', '.join(known)}")
    return {name: known[name].read(value, place) for name, value in fields.items()}


def to_options(*, query: Values, body: Values, headers: Values) -> Options:
    """Merge the three places: the query wins over the body, the body over the headers."""
    values = {**headers, **body, **query}
    return Options(
        model=values.get("model"),
        version=values.get("version"),
        top_k=values.get("top_k", _DEFAULT_TOP_K),
        explain=values.get("explain", False),
        ask=replace(to_request_limits(values), priority=values["priority"])
        if "priority" in values
        else to_request_limits(values),
    )


def to_request_limits(values: Mapping[str, Any]) -> RequestLimits:
    """Return the budget that parsed values ask for."""
    deadline_ms = values.get("deadline_ms")
    return RequestLimits(
        max_tape=values.get("max_tape"),
        max_flops=values.get("max_flops"),
        deadline_s=None if deadline_ms is None else deadline_ms / 1000,
        min_accuracy=values.get("min_accuracy"),
    )
