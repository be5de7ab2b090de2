"""`/docs`: Swagger UI from an installed package, so that it works without internet."""

from importlib.util import find_spec
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse

_PACKAGE = "fastapi_swagger"  # MIT; it carries Swagger UI, which is Apache-2.0
_SCRIPT, _STYLE, _ICON = ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


def _find_folder() -> Path:
    """Return where the package keeps its files, without importing it."""
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"package; got no {_PACKAGE}; expected all of requirements/server.txt")
    return Path(spec.submodule_search_locations[0]) / "resources"


_FOLDER = _find_folder()


async def page(_: Request) -> HTMLResponse:
    """Show the API; it loads nothing from anywhere else."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="adatape-serve API",
        swagger_js_url=f"/docs/{_SCRIPT}",
        swagger_css_url=f"/docs/{_STYLE}",
        swagger_favicon_url=f"/docs/{_ICON}",
        oauth2_redirect_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # else it may ask a public service about our document
    )


async def asset(request: Request) -> FileResponse:
    """Serve one of the page's own files."""
    name = request.path_params["name"]
    if name not in ASSETS:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name)
