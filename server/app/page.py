"""`/`: the web page, the plain files of `server/static`. It loads nothing from another server.

A file is read when it is first requested, and kept. A browser keeps it too, and asks whether it has changed.
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

# No inline code, and nothing from another server; blob: is the photo that the visitor chose, shown from memory.
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
    """Return the security headers of a page; `changes` replaces directives of its policy, None removes one."""
    policy = {**_POLICY, **changes}
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items() if value is not None),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }


@dataclass(frozen=True, slots=True)
class Asset:
    """One file and its headers."""

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

    Raises: HTTPException for a path that is no file of the page.
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
    """Return the paths that may be requested: only these names ever reach the disk."""
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
