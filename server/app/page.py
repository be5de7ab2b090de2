"""`/`: the web page, plain files of `server/static` that ask nobody but this server.

Files are read when first asked for and kept; a browser keeps them too, and asks whether they have changed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parents[1] / "static"
INDEX = "index.html"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ETAG_DIGITS = 16

# Nothing inline, nothing from elsewhere; blob: is the photo that the visitor chose, which never leaves this origin.
_POLICY: dict[str, str | None] = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}


def safety_headers(changes: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, str]:
    """Return what every page has a browser refuse; `changes` are directives that one does otherwise, or without."""
    policy = {**_POLICY, **changes}
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items() if value is not None),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, and the headers that go with it."""

    body: bytes
    headers: dict[str, str]


async def home(request: Request) -> Response:
    """Show the page."""
    return _send(request, INDEX)


async def asset(request: Request) -> Response:
    """Serve one of the page's own files."""
    return _send(request, request.path_params["path"])


def _send(request: Request, path: str) -> Response:
    """Return a file, or 304 where the browser has it.

    Raises: HTTPException for whatever is not a file of ours.
    """
    if path not in _paths():
        raise HTTPException(404)
    asset = _load(path)
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if asset.headers["ETag"] in known:
        return Response(status_code=304, headers=asset.headers)
    return Response(asset.body, headers=asset.headers)


@cache
def _paths() -> frozenset[str]:
    """Return what may be asked for: only names on this list ever reach the disk."""
    return frozenset(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.suffix in CONTENT_TYPES)


@cache
def _load(path: str) -> Asset:
    body = (FOLDER / path).read_bytes()
    headers = {
        "Content-Type": CONTENT_TYPES[Path(path).suffix],
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:_ETAG_DIGITS]}"',
        "Cache-Control": "no-cache",
        **safety_headers(),
    }
    return Asset(body, headers)
