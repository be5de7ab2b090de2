"""schemathesis over the whole OpenAPI document of a running server: data that it allows, and data that it forbids."""

from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz.results import TargetResult

MAY_FAIL = {503, 504}
"""Server errors that the document announces: no room, and no time."""
Case = Any


def operations(url: str) -> list[tuple[str, st.SearchStrategy[Case]]]:
    """Return each operation's name, and a strategy of its cases."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    return [(each.label, st.one_of(*_strategies(each, modes))) for each in found]


def _strategies(operation: Any, modes: tuple[Any, ...]) -> list[st.SearchStrategy[Case]]:
    """Leave out data that an operation without any parameter cannot get wrong."""
    has_input = bool(operation.path_parameters or operation.query or operation.headers or operation.body)
    return [operation.as_strategy(generation_mode=mode) for mode in (modes if has_input else modes[:1])]


def sender(url: str, model: str, result: TargetResult) -> Callable[[Case], None]:
    """Return what sends one case and holds the answer against the document; every other asks for a model there is."""

    def send(case: Case) -> None:
        if "model" in (case.path_parameters or {}) and result.num_done % 2:
            case.path_parameters["model"] = model
        # Well-formed is not enough for a 200: bytes must be an image, a model must exist, a deadline must leave time.
        try:
            response = case.call(base_url=url)
            case.validate_response(response, excluded_checks=[positive_data_acceptance, not_a_server_error])
        except FailureGroup as failures:
            result.add("fault", f"{case.method} {case.path}: {failures.exceptions[0]}")
            return
        is_fault = response.status_code >= 500 and response.status_code not in MAY_FAIL
        fault = f"{case.method} {case.path}: {response.status_code} {response.text[:300]}" if is_fault else None
        result.add(str(response.status_code), fault)

    return send
