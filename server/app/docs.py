"""The documentation of the API: the OpenAPI document, and Swagger UI to read it at `/docs`.

The document has what FastAPI knows, and the operations of the endpoints that FastAPI does not know. Swagger UI comes
from an installed package, so that it works without internet. Like `/`, it runs no inline script, and loads nothing from
another server.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from server.app.page import CONTENT_TYPES, safety_headers
from server.classify.openapi import component_schemas, error_responses

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

_PACKAGE = "fastapi_swagger"  # MIT; it carries Swagger UI, which is Apache-2.0
_SCRIPT, _STYLE, _ICON = ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
_START = "start.js"

# Swagger UI uses style attributes and icons in data: URLs, and its scripts set HTML from text.
_POLICY = {"style-src": "'self' 'unsafe-inline'", "img-src": "'self' data:", "require-trusted-types-for": None}
_HEADERS = {**safety_headers(_POLICY), "Cache-Control": "no-cache"}
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>adatape-serve API</title>
<link rel="stylesheet" href="/docs/{_STYLE}">
<link rel="icon" href="/docs/{_ICON}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/{_SCRIPT}"></script>
<script src="/docs/{_START}"></script>
</body>
</html>
"""
# `validatorUrl: null` keeps Swagger UI from sending our document to a public service.
_STARTER = """"use strict";

SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    showExtensions: true,
    showCommonExtensions: true,
    layout: "BaseLayout",
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
    validatorUrl: null,
});
"""


def _find_folder() -> Path:
    """Return where the package keeps its files, without importing it."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"package; got no {_PACKAGE}; expected all of requirements/server.txt")
    return Path(spec.submodule_search_locations[0]) / "resources"


_FOLDER = _find_folder()


async def page(_: Request) -> HTMLResponse:
    """Show the API. The page loads nothing from another server."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


async def asset(request: Request) -> Response:
    """Serve one of the page's own files."""
    name = request.path_params["name"]
    if name == _START:
        return Response(_STARTER, headers={**_HEADERS, "Content-Type": CONTENT_TYPES[".js"]})
    if name not in ASSETS:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, headers=_HEADERS)


def describe_api(api: FastAPI, operations: Mapping[tuple[str, str], Json]) -> Json:
    """Return the whole OpenAPI document, built once."""
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
    """Describe both ways to send a key; `{}` says that a server on loopback may not need one."""
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, where the server asks for one."},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{}, {"bearer": []}, {"apiKey": []}]


def _replace_validation(document: Json) -> None:
    """Replace the 422 that FastAPI documents by our 400, which is what the renderer sends."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if operation["responses"].pop("422", None) is not None:
                operation["responses"].update({str(s): e for s, e in error_responses([400]).items()})
