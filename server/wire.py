"""One HTTP call as the surfaces see it, and the reply they give: all that they know of ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from server.errors import BadRequest, Cancelled, PayloadTooLarge

if TYPE_CHECKING:
    from server.tenancy import Caller

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[str, str], ...]
T = TypeVar("T")


class Call:
    """One HTTP call. Its body is read only when asked for, and never beyond the limit.

    Units: arrival_s is on the monotonic clock.
    """

    __slots__ = ("_headers", "_max_body_bytes", "_receive", "arrival_s", "caller", "is_counted", "request_id", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, *, request_id: str, arrival_s: float, max_body_bytes: int
    ) -> None:
        self.scope = scope
        self.request_id = request_id
        self.arrival_s = arrival_s
        self.caller: Caller | None = None
        """Who makes the call, where that is asked."""
        self.is_counted = False
        """Set once the engine has seen the call: from then on its metrics are the engine's to count."""
        self._receive = receive
        self._max_body_bytes = max_body_bytes
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def query_string(self) -> str:
        raw: bytes = self.scope["query_string"]
        return raw.decode("latin-1")

    def header(self, name: bytes) -> str | None:
        """Return a header's value by its lower-case name; the last one where it came twice."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """Read the whole body.

        Raises: PayloadTooLarge as soon as the limit is passed, announced or not; Cancelled if
        the client leaves before the end.
        """
        self._check_announced()
        chunks: list[bytes] = []
        num_bytes = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client left before the end of its body")
            chunk = message.get("body", b"")
            num_bytes += len(chunk)
            if num_bytes > self._max_body_bytes:
                raise self._too_large(f"more than {self._max_body_bytes} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def gone(self) -> None:
        """Return when the client has left. Only for use after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _check_announced(self) -> None:
        coding = self.header(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise BadRequest("Transfer-Encoding", coding, "chunked, or none")
        announced = self.header(b"content-length")
        if announced is None:
            return
        if not (announced.isascii() and announced.isdigit()):
            raise BadRequest("Content-Length", announced, "a number of bytes")
        if int(announced) > self._max_body_bytes:
            raise self._too_large(f"{announced} bytes")

    def _too_large(self, got: str) -> PayloadTooLarge:
        return PayloadTooLarge("the request body is too large", got, f"at most {self._max_body_bytes} bytes")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a surface answers."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Headers = ()


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """Render any plain value, numpy included, as a JSON reply."""
    return Reply(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, headers=headers)


async def send_reply(send: Send, reply: Reply, extra: Iterable[tuple[str, str]] = ()) -> None:
    """Put a reply on the wire."""
    headers = [
        (b"content-type", reply.content_type.encode("latin-1")),
        (b"content-length", str(len(reply.body)).encode("ascii")),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in (*reply.headers, *extra)),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def while_connected(call: Call, answering: Awaitable[T]) -> T:
    """Return what comes of an awaitable, or cancel it as soon as the client leaves.

    Raises: Cancelled if the client left; else what the awaitable raises.
    """
    task = asyncio.current_task()
    assert task is not None, "A surface runs in a task. This is a bug."
    departure = asyncio.ensure_future(call.gone())

    def leave(done: asyncio.Future[None]) -> None:
        if not done.cancelled():
            task.cancel()

    departure.add_done_callback(leave)
    try:
        return await answering
    except asyncio.CancelledError:
        if not departure.done() or departure.cancelled():
            raise
        task.uncancel()
        raise Cancelled("the client left before its answer") from None
    finally:
        departure.remove_done_callback(leave)
        departure.cancel()
