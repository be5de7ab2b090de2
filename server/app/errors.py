"""Renders every failure as a reply: always `{"error": "<what>; got <value>; expected <...>"}`."""

import logging
import math
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from server.errors import STATUS, BadRequest, MethodNotAllowed, NotFound, ServeError, Unauthenticated, status_of
from server.http.exchange import Headers, HttpReply, HttpRequest, json_reply

_log = logging.getLogger("adatape.app")

_BY_STATUS = {status: error for error, status in STATUS.items()}


def to_serve_error(error: Exception, request: HttpRequest) -> ServeError:
    """Return any failure as a ServeError; an unexpected one is logged here, with its traceback."""
    if isinstance(error, ServeError):
        return error
    if isinstance(error, RequestValidationError):
        return _from_validation(error)
    if isinstance(error, HTTPException):
        return _from_status(error, request)
    _log.error("unexpected_failure request=%s path=%s", request.request_id, request.scope["path"], exc_info=error)
    return ServeError("the server failed unexpectedly", None, f"a bug report that names request {request.request_id}")


def to_reply(error: ServeError, extra: Headers = ()) -> HttpReply:
    """Render an error."""
    headers = extra
    if error.retry_after_s is not None:
        headers = (*extra, ("Retry-After", str(max(1, math.ceil(error.retry_after_s)))))
    if isinstance(error, Unauthenticated):
        headers = (*headers, ("WWW-Authenticate", 'Bearer realm="adatape-serve"'))
    return json_reply({"error": _printable(str(error))}, status_of(error), headers)


def headers_of(error: Exception) -> Headers:
    """Return the headers that the router adds to its error, such as Allow."""
    return tuple((error.headers or {}).items()) if isinstance(error, HTTPException) else ()


def _printable(text: str) -> str:
    """Replace lone surrogates, which a caller can send and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _from_validation(error: RequestValidationError) -> BadRequest:
    fault: dict[str, Any] = error.errors()[0]
    place, *path = fault["loc"]
    expected = str(fault["msg"]).removeprefix("Value error, ")
    return BadRequest(f"{'.'.join(map(str, path)) or place} in the {place}", fault.get("input"), expected)


def _from_status(error: HTTPException, request: HttpRequest) -> ServeError:
    method, path = request.scope["method"], request.scope["path"]
    if error.status_code == STATUS[NotFound]:
        return NotFound("path", path, "one that /docs lists")
    if error.status_code == STATUS[MethodNotAllowed]:
        allowed = dict(headers_of(error)).get("Allow", "another method")
        return MethodNotAllowed(f"method for {path}", method, allowed)
    return _BY_STATUS.get(error.status_code, ServeError)(str(error.detail))
