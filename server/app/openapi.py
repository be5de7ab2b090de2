"""The OpenAPI document: what FastAPI sees, with what the surfaces say of the endpoints it does not."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from server.classify.describe import component_schemas, error_responses

Json = dict[str, Any]
_DESCRIPTION = """
Every answer carries `X-Request-Id`: the one you sent, or a new one. Every failure, on every path, has the body
`{"error": "<what>; got <value>; expected <...>"}`. A multiply-add counts as 2 FLOPs; `*_ms` are milliseconds.

[Try it on a page](/), or from a shell:

    curl -F file=@photo.jpg "localhost:8000/v1/classify?max_tape=8"
"""
_TAGS = (
    ("classify", "An image in, labels and a receipt out."),
    ("models", "What each model is, and what an answer at each cap is worth and costs."),
    ("operation", "For orchestrators, monitoring and operators."),
)
_VALIDATION = ("HTTPValidationError", "ValidationError")


def describe(api: FastAPI, operations: Mapping[tuple[str, str], Json]) -> Json:
    """Return the whole document, built once."""
    if api.openapi_schema is None:
        document = get_openapi(
            title=api.title,
            version=api.version,
            summary=api.summary,
            description=_DESCRIPTION,
            license_info=api.license_info,
            routes=api.routes,
            tags=[{"name": name, "description": about} for name, about in _TAGS],
        )
        for (path, method), operation in operations.items():
            document["paths"].setdefault(path, {})[method.lower()] = operation
        _add_schemas(document)
        _add_security(document)
        _replace_validation(document)
        api.openapi_schema = document
    return api.openapi_schema


def _add_schemas(document: Json) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(component_schemas())
    for name in _VALIDATION:
        schemas.pop(name, None)


def _add_security(document: Json) -> None:
    """Name both ways to show a key; `{}` says that a server on loopback may not ask for one."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the server asks for one."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{}, {"bearer": []}, {"apiKey": []}]


def _replace_validation(document: Json) -> None:
    """FastAPI documents its own 422; the renderer makes it our 400."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if operation["responses"].pop("422", None) is not None:
                operation["responses"].update({str(s): e for s, e in error_responses([400]).items()})
