"""The routes of `/v2`, and the handlers of all but inference."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from re import Pattern
from re import compile as compile_pattern
from typing import Any, NamedTuple

import orjson
from starlette.exceptions import HTTPException

from server.dataplane import DataPlane
from server.errors import STATUS, BadRequest, MethodNotAllowed, NotFound
from server.http.bounded_json import read_json
from server.http.exchange import AccessLevel, HttpReply, HttpRequest, json_reply
from server.oip.infer import InferHandler
from server.settings import JsonLimits, Settings

Handler = Callable[..., Awaitable[HttpReply]]
Names = dict[str, str | None]
_VERSIONED = r"/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?"
_MODEL_CHANGE = r"/repository/models/(?P<model>[^/]+)"

# The first pattern that matches is taken: `stats` is no model.
_PATHS: tuple[tuple[str, str, str, AccessLevel], ...] = (
    ("GET", r"", "server_metadata", AccessLevel.CALLERS),
    ("GET", r"/health/live", "server_live", AccessLevel.OPEN),
    ("GET", r"/health/ready", "server_ready", AccessLevel.OPEN),
    ("GET", r"/models/stats", "statistics", AccessLevel.CALLERS),
    ("GET", _VERSIONED, "model_metadata", AccessLevel.CALLERS),
    ("GET", _VERSIONED + r"/ready", "model_ready", AccessLevel.CALLERS),
    ("GET", _VERSIONED + r"/config", "model_config", AccessLevel.CALLERS),
    ("GET", _VERSIONED + r"/stats", "statistics", AccessLevel.CALLERS),
    ("POST", _VERSIONED + r"/infer", "infer", AccessLevel.CALLERS),
    ("POST", r"/repository/index", "repository_index", AccessLevel.CALLERS),
    ("POST", _MODEL_CHANGE + r"/load", "load", AccessLevel.ADMINS),
    ("POST", _MODEL_CHANGE + r"/unload", "unload", AccessLevel.ADMINS),
)
_PREFIX = "/v2"


class Route(NamedTuple):
    """One route that matches a path, with the names in the path."""

    method: str
    name: str
    level: AccessLevel
    names: Names


_PATTERNS: list[tuple[Pattern[str], str, str, AccessLevel]] = [
    (compile_pattern(_PREFIX + path + "/?"), method, name, level) for method, path, name, level in _PATHS
]


class Oip:
    """Answers every request below `/v2`."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane = plane
        self.infer = InferHandler(plane, settings)
        self._json_limits = settings.small_json_limits
        self._handlers: Mapping[str, Handler] = {name: getattr(self, name) for _, _, name, _ in _PATHS}

    async def __call__(self, request: HttpRequest) -> HttpReply:
        """Answer one request.

        Raises: ServeError, or starlette's HTTPException for a wrong method.
        """
        path, method = request.scope["path"], request.scope["method"]
        route = _find(path)
        request.authorize(AccessLevel.CALLERS if route is None else route.level)
        if route is None:
            raise NotFound("path", path, "one of the Open Inference Protocol")
        if method != route.method:
            raise HTTPException(STATUS[MethodNotAllowed], headers={"Allow": route.method})
        return await self._handlers[route.name](request, **route.names)

    async def server_metadata(self, _: HttpRequest) -> HttpReply:
        return json_reply(self._plane.server_metadata())

    async def server_live(self, _: HttpRequest) -> HttpReply:
        self._plane.check_live()
        return json_reply({"live": True})

    async def server_ready(self, _: HttpRequest) -> HttpReply:
        self._plane.check_ready()
        return json_reply({"ready": True})

    async def model_ready(self, _: HttpRequest, model: str, version: str | None) -> HttpReply:
        self._plane.check_model_ready(model, version)
        return json_reply({"name": model, "ready": True})

    async def model_metadata(self, _: HttpRequest, model: str, version: str | None) -> HttpReply:
        return json_reply(self._plane.model_metadata(model, version))

    async def model_config(self, _: HttpRequest, model: str, version: str | None) -> HttpReply:
        return json_reply(self._plane.model_config(model, version))

    async def statistics(self, _: HttpRequest, model: str | None = None, version: str | None = None) -> HttpReply:
        return json_reply(self._plane.statistics(model, version))

    async def repository_index(self, request: HttpRequest) -> HttpReply:
        only_ready = (await _read_object(request, self._json_limits)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise BadRequest("ready in the JSON body", only_ready, "true or false")
        return json_reply(self._plane.repository_index(only_ready=only_ready))

    async def load(self, request: HttpRequest, model: str) -> HttpReply:
        await self._plane.load(model, await _read_parameters(request, self._json_limits))
        return json_reply({})

    async def unload(self, request: HttpRequest, model: str) -> HttpReply:
        await self._plane.unload(model, await _read_parameters(request, self._json_limits))
        return json_reply({})


@lru_cache(maxsize=1024)
def _find(path: str) -> Route | None:
    """Return the route of a path, None if no route matches."""
    for pattern, method, name, level in _PATTERNS:
        match = pattern.fullmatch(path)
        if match:
            return Route(method, name, level, match.groupdict())
    return None


async def _read_object(request: HttpRequest, limits: JsonLimits) -> dict[str, Any]:
    """Return the body's JSON object; no body is an empty one."""
    body = await request.body()
    try:
        document = read_json(body, limits) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest("JSON body", str(error), "an object, or nothing") from error
    if not isinstance(document, dict):
        raise BadRequest("JSON body", type(document).__name__, "an object, or nothing")
    return document


async def _read_parameters(request: HttpRequest, limits: JsonLimits) -> list[str]:
    """Return the names of the parameters in the body."""
    parameters = (await _read_object(request, limits)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("parameters in the JSON body", parameters, "an object")
    return list(parameters)
