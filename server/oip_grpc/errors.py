"""Renders a failure in gRPC's form: a status code, our message, and when to try again."""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from server.errors import (
    BackendFailed,
    BadRequest,
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    QuotaExceeded,
    ServeError,
    TooSlow,
    Unauthenticated,
    Unavailable,
    forget_frames,
)

_log = logging.getLogger("adatape.oip_grpc")

# Looked up along the class's bases, as in `server.errors.STATUS`.
CODES: dict[type[ServeError], grpc.StatusCode] = {
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    PayloadTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooSlow: grpc.StatusCode.DEADLINE_EXCEEDED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    MethodNotAllowed: grpc.StatusCode.UNIMPLEMENTED,
    QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    BackendFailed: grpc.StatusCode.INTERNAL,
}


def code_of(error: ServeError) -> grpc.StatusCode:
    """Return the status code of an error: that of its nearest base in `CODES`, else INTERNAL."""
    return next((CODES[base] for base in type(error).__mro__ if base in CODES), grpc.StatusCode.INTERNAL)


def to_serve_error(error: Exception, rpc: str) -> ServeError:
    """Return any failure as a ServeError; an unexpected one is logged here, with its traceback."""
    if isinstance(error, ServeError):
        return error
    _log.error("unexpected_failure rpc=%s", rpc, exc_info=error)
    return ServeError("the server failed unexpectedly", None, f"a bug report that names {rpc}")


def refuse(context: grpc.aio.ServicerContext, error: ServeError, trailers: tuple[tuple[str, str], ...] = ()) -> None:
    """Set the status and the trailing metadata of an RPC that fails; it ends when its handler returns.

    `context.abort` would leave a reference cycle of exception, frames and RPC, with all that they hold.
    """
    retry = () if error.retry_after_s is None else (("retry-after", str(max(1, math.ceil(error.retry_after_s)))),)
    context.set_code(code_of(error))
    context.set_details(str(error))
    context.set_trailing_metadata((*(context.trailing_metadata() or ()), *retry, *trailers))
    forget_frames(error)


def render_errors(rpc: str, answer: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return a unary RPC that ends with one of our status codes whenever `answer` fails."""

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await answer(request)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes an answer
            refuse(context, to_serve_error(error, rpc))
            return None

    return handle
