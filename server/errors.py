"""Every error that a caller can get, and the one table that turns it into a status.

    ServeError
    ├── BadRequest            400  the input cannot be understood
    │   ├── PayloadTooLarge   413  the body or a field exceeds its limit
    │   ├── HeadTooLarge      431  the request line and headers exceed their limit
    │   ├── ExpectationFailed 417  the request expects what the server does not support
    │   ├── NotAnImage        415  the bytes are no image we can decode
    │   └── TooSlow           408  a part of the request did not arrive in time
    ├── Unauthenticated       401  no API key, or one that is not known
    ├── Forbidden             403  a known caller may not do this
    ├── NotFound              404  no such model, version or path
    ├── MethodNotAllowed      405  the path exists, the verb does not
    ├── QuotaExceeded         429  a tenant's FLOP quota is spent
    ├── Unavailable           503  nothing can serve this now; try again later
    │   ├── Overloaded        503  refused because even the smallest budget would be late
    │   ├── Draining          503  the server is shutting down
    │   ├── ModelNotReady     503  the model exists but is not loaded
    │   └── TooManyConnections 503  this client, or all of them, hold too many connections
    ├── DeadlineExceeded      504  the caller's own deadline cannot be met, or was not met
    ├── Cancelled             499  the caller disconnected or cancelled
    └── BackendFailed         500  an execution failed or returned nonsense
        └── OutOfMemory       500  even one sample alone does not fit the device's memory

Domain errors know no HTTP: only `STATUS` and the renderer in `app` do.
"""

from collections.abc import Iterable

_MAX_WHAT, _MAX_GOT = 400, 120
"""How many characters of a caller's input a message repeats: of its names, and of the refused value."""


class ServeError(Exception):
    """An expected failure, with a message a caller can act on.

    The message reads "<what>; <offending value>; <what was expected>".
    `retry_after_s` is set where a later retry can help; `cause` is for the metrics: which limit was exceeded, or when.
    """

    reason = "internal"

    def __init__(
        self,
        what: str,
        got: object = None,
        expected: str | None = None,
        *,
        retry_after_s: float | None = None,
        cause: str = "",
    ) -> None:
        parts = [_cut(what, _MAX_WHAT)]
        if got is not None:
            parts.append(f"got {_cut(got if isinstance(got, str) else _show(got, _MAX_GOT), _MAX_GOT)}")
        if expected is not None:
            parts.append(f"expected {expected}")
        super().__init__("; ".join(parts))
        self.retry_after_s = retry_after_s
        self.cause = cause


class BadRequest(ServeError):
    reason = "bad_request"


class PayloadTooLarge(BadRequest):
    reason = "too_large"


class HeadTooLarge(BadRequest):
    reason = "head_too_large"


class ExpectationFailed(BadRequest):
    reason = "expectation"


class NotAnImage(BadRequest):
    reason = "not_an_image"


class TooSlow(BadRequest):
    reason = "too_slow"


class Unauthenticated(ServeError):
    reason = "unauthenticated"


class Forbidden(ServeError):
    reason = "forbidden"


class NotFound(ServeError):
    reason = "not_found"


class MethodNotAllowed(ServeError):
    reason = "method_not_allowed"


class QuotaExceeded(ServeError):
    reason = "quota"


class Unavailable(ServeError):
    reason = "unavailable"


class Overloaded(Unavailable):
    reason = "overload"


class Draining(Unavailable):
    reason = "draining"


class ModelNotReady(Unavailable):
    reason = "model_not_ready"


class TooManyConnections(Unavailable):
    reason = "too_many_connections"


class DeadlineExceeded(ServeError):
    reason = "deadline"


class Cancelled(ServeError):
    reason = "cancelled"


class BackendFailed(ServeError):
    reason = "backend"


class OutOfMemory(BackendFailed):
    reason = "out_of_memory"


# Looked up along the class's bases, so a subclass needs a row only where it differs.
STATUS: dict[type[ServeError], int] = {
    BadRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    PayloadTooLarge: 413,
    NotAnImage: 415,
    ExpectationFailed: 417,
    QuotaExceeded: 429,
    HeadTooLarge: 431,
    Cancelled: 499,
    BackendFailed: 500,
    Unavailable: 503,
    DeadlineExceeded: 504,
}


def status_of(error: ServeError) -> int:
    """Return the HTTP status for an error: that of its nearest base in `STATUS`, else 500."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def all_errors(base: type[ServeError] = ServeError) -> list[type[ServeError]]:
    """Return the whole tree, root first."""
    return [base, *(error for child in base.__subclasses__() for error in all_errors(child))]


def forget_frames(error: BaseException | None) -> None:
    """Drop the frames of an error and of its causes, once it is reported and nobody raises it any more.

    The variables of a frame often hold the future that holds the error. Such a cycle keeps a request's bytes and its
    model in memory until the next garbage collection, and a server collects rarely.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _show(value: object, limit: int) -> str:
    """Return a value's `repr`, or a little more than its first characters without writing out the rest."""
    if isinstance(value, str | bytes):
        return repr(value[:limit])
    if isinstance(value, dict):
        pairs = (f"{_show(name, limit)}: {_show(each, limit - 1)}" for name, each in value.items())
        return f"{{{_join(pairs, limit)}}}"
    if isinstance(value, list):
        return f"[{_join((_show(each, limit - 1) for each in value), limit)}]"
    return repr(value)


def _join(texts: Iterable[str], limit: int) -> str:
    parts: list[str] = []
    for text in texts:
        parts.append(text)
        limit -= len(text) + 2
        if limit < 0:
            break
    return ", ".join(parts)
