"""`/docs`: Swagger UI from an installed package, so that it works without internet.

Like the page it runs no script that stands in a document, and asks nobody but this server.
"""

from importlib.util import find_spec
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from server.app.page import CONTENT_TYPES, safety_headers

_PACKAGE = "fastapi_swagger"  # MIT; it carries Swagger UI, which is Apache-2.0
_SCRIPT, _STYLE, _ICON = ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
_START = "start.js"

# It draws with style attributes and icons in data: URLs, and its scripts make HTML of text in a way of their own.
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
# Without a validatorUrl of null it may ask a public service about our document.
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
    """Show the API; it loads nothing from anywhere else."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


async def asset(request: Request) -> Response:
    """Serve one of the page's own files."""
    name = request.path_params["name"]
    if name == _START:
        return Response(_STARTER, headers={**_HEADERS, "Content-Type": CONTENT_TYPES[".js"]})
    if name not in ASSETS:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, headers=_HEADERS)
