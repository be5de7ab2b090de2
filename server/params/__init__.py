"""The parameters of a request: one table that names, parses and documents them, for every surface."""

from server.params.reading import Options, read_fields, read_headers, read_query, to_options, to_request_limits
from server.params.table import BUDGET, BY_NAME, PARAMETERS, Parameter, to_natural

__all__ = [
    "BUDGET",
    "BY_NAME",
    "PARAMETERS",
    "Options",
    "Parameter",
    "read_fields",
    "read_headers",
    "read_query",
    "to_natural",
    "to_options",
    "to_request_limits",
]
