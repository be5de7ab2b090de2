"""One HTTP request as the surfaces see it, and the reply that they return. Only this module knows ASGI."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from enum import Enum
from random import getrandbits
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from server.errors import BadRequest, Cancelled, PayloadTooLarge
from server.http.body_memory import UNCOUNTED_BYTES, BodyMemory

if TYPE_CHECKING:
    from server.tenancy import Caller

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[str, str], ...]
RawHeaders = list[tuple[bytes, bytes]]
Authorize = Callable[["HttpRequest", "AccessLevel"], None]
"""Returns if a request may reach what needs this access level.

Raises: Unauthenticated; Forbidden."""
T = TypeVar("T")


_CONTENT_TYPES = {kind: kind.encode("ascii") for kind in ("application/json", "application/octet-stream")}
"""The content types of almost every reply, encoded once."""

ARRIVAL = "adatape.arrival_s"
"""The scope's key for the arrival time, where the HTTP protocol has estimated one."""
CLIENT_DISCONNECT = "adatape.client_disconnect"
"""The scope's key for the connection's `ClientDisconnect`, where the HTTP protocol provides one."""


class AccessLevel(Enum):
    """Who may reach a route. Every route has one, so no path leads around the check."""

    OPEN = "open"
    """Everyone: the answer says nothing about anyone's images."""
    CALLERS = "callers"
    """Everyone who may use this server at all."""
    ADMINS = "admins"


class ClientDisconnect:
    """Calls its watchers once, as soon as the client of a connection has disconnected."""

    __slots__ = ("_watchers", "has_happened")

    def __init__(self) -> None:
        self.has_happened = False
        self._watchers: set[Callable[[], object]] = set()

    def watch(self, act: Callable[[], object]) -> None:
        """Call `act` when the client disconnects, or now if it already has."""
        if self.has_happened:
            act()
        else:
            self._watchers.add(act)

    def unwatch(self, act: Callable[[], object]) -> None:
        """Remove a watcher."""
        self._watchers.discard(act)

    def happen(self) -> None:
        """Call the watchers: the client has disconnected."""
        self.has_happened = True
        watchers, self._watchers = self._watchers, set()
        for act in watchers:
            act()


class _AsgiDisconnect(ClientDisconnect):
    """A disconnect that comes as an ASGI message: a task waits for it until the watcher is removed."""

    __slots__ = ("_task",)

    def __init__(self, receive: Receive) -> None:
        super().__init__()
        self._task = asyncio.ensure_future(self._wait(receive))

    def unwatch(self, act: Callable[[], object]) -> None:
        super().unwatch(act)
        self._task.cancel()

    async def _wait(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.happen()


class HttpRequest:
    """One HTTP request. Its body is read only when a surface asks for it, and never beyond the limit.

    Units: arrival_s is on the monotonic clock.
    """

    __slots__ = (
        "_authorize",
        "_body_memory",
        "_headers",
        "_held_bytes",
        "_receive",
        "arrival_s",
        "caller",
        "is_body_asked",
        "is_counted",
        "request_id",
        "scope",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        request_id: str,
        arrival_s: float,
        body_memory: BodyMemory,
        authorize: Authorize | None = None,
    ) -> None:
        """Take a request; `authorize` checks its caller for each route, without it every route is open."""
        self._authorize = authorize
        self.scope = scope
        self.request_id = request_id
        self.arrival_s = arrival_s
        self.caller: Caller | None = None
        """Who makes the request; None before `authorize`, and where no route asks for it."""
        self.is_counted = False
        """Whether the engine has taken the request: from then on the engine counts its metrics."""
        self.is_body_asked = False
        """Whether the surface has asked for the body, which sends `100 Continue` to a client that waits for it."""
        self._receive = receive
        self._body_memory = body_memory
        self._held_bytes = 0
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    @property
    def query_string(self) -> str:
        raw: bytes = self.scope["query_string"]
        return raw.decode("latin-1")

    def authorize(self, level: AccessLevel) -> None:
        """Return if the caller may reach a route of this level. Call it before the route does or reveals anything.

        Raises: Unauthenticated; Forbidden.
        """
        if self._authorize is not None:
            self._authorize(self, level)

    def header(self, name: bytes) -> str | None:
        """Return a header's value by its lower-case name; the last one where it came twice."""
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def values(self, name: bytes) -> list[str]:
        """Return every value of a header: for headers that may come only once."""
        if name not in self._headers:
            return []
        return [value.decode("latin-1") for each, value in self.scope["headers"] if each == name]

    def has_none_of(self, names: frozenset[bytes]) -> bool:
        """Say whether no header has any of these lower-case names."""
        return names.isdisjoint(self._headers)

    async def body(self) -> bytes:
        """Read the whole body.

        Raises: PayloadTooLarge as soon as the limit is passed, announced or not; Overloaded if all bodies together
        pass theirs; Cancelled if the client disconnects before the end.
        """
        self._check_announced()
        self.is_body_asked = True
        chunks: list[bytes] = []
        num_bytes = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Cancelled("the client left before the end of its body")
            chunk: bytes = message.get("body", b"")
            num_bytes += len(chunk)
            if num_bytes > self._body_memory.max_body_bytes:
                raise self._too_large(f"more than {self._body_memory.max_body_bytes} bytes")
            if num_bytes > UNCOUNTED_BYTES:
                self._held_bytes = self._body_memory.grow(self._held_bytes, num_bytes)
            if not message.get("more_body", False):
                return b"".join((*chunks, chunk)) if chunks else chunk
            chunks.append(chunk)

    def release(self) -> None:
        """Free the memory that the body counts for. Call it once the request is answered."""
        if self._held_bytes:
            self._body_memory.release(self._held_bytes)
            self._held_bytes = 0

    def client_disconnect(self) -> "ClientDisconnect":
        """Return what reports that the client disconnects. Call it once, after `body`."""
        return self.scope.get(CLIENT_DISCONNECT) or _AsgiDisconnect(self._receive)

    def _check_announced(self) -> None:
        announced = self.header(b"content-length")
        if announced is None:
            return
        announced = announced.strip(" \t")
        if not (announced.isascii() and announced.isdigit()):
            raise BadRequest("Content-Length", announced, "a number of bytes")
        if int(announced) > self._body_memory.max_body_bytes:
            raise self._too_large(f"{announced} bytes")

    def _too_large(self, got: str) -> PayloadTooLarge:
        return PayloadTooLarge(
            "the request body is too large", got, f"at most {self._body_memory.max_body_bytes} bytes"
        )


def new_request_id() -> str:
    """Return an id for a request that brought none: unique, but not hard to guess."""
    return f"{getrandbits(64):016x}"


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a surface returns: body, status and headers."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Headers = ()


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> HttpReply:
    """Render any plain value, numpy included, as a JSON reply."""
    return HttpReply(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, headers=headers)


async def send_reply(send: Send, reply: HttpReply, more: RawHeaders) -> None:
    """Send a reply, with more headers: those that depend on its request."""
    headers = [
        (b"content-type", _CONTENT_TYPES.get(reply.content_type) or reply.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(reply.body)),
        *[(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers],
        *more,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def while_connected(request: HttpRequest, answering: Awaitable[T]) -> T:
    """Await a request's answer, and cancel that as soon as the client disconnects.

    Raises: Cancelled if the client disconnected; else what the awaitable raises.
    """
    task = asyncio.current_task()
    assert task is not None, "A surface runs in a task. This is a bug."
    client_disconnect = request.client_disconnect()
    client_disconnect.watch(task.cancel)
    try:
        return await answering
    except asyncio.CancelledError:
        if not client_disconnect.has_happened:
            raise
        task.uncancel()
        raise Cancelled("the client left before its answer") from None
    finally:
        client_disconnect.unwatch(task.cancel)
