"""The paths of `/v2`, and all but inference behind them."""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from re import Pattern
from re import compile as compile_pattern
from typing import Any, NamedTuple

import orjson
from starlette.exceptions import HTTPException

from server.dataplane import DataPlane
from server.documents import read_json
from server.errors import STATUS, BadRequest, MethodNotAllowed, NotFound
from server.limit_settings import JsonLimits
from server.oip.infer import InferHandler
from server.settings import Settings
from server.wire import Call, Door, Reply, json_reply

Handler = Callable[..., Awaitable[Reply]]
Names = dict[str, str | None]
_VERSIONED = r"/models/(?P<model>[^/]+)(/versions/(?P<version>[^/]+))?"
_MODEL_CHANGE = r"/repository/models/(?P<model>[^/]+)"

# The first pattern that fits is taken: `stats` is no model.
_PATHS: tuple[tuple[str, str, str, Door], ...] = (
    ("GET", r"", "server_metadata", Door.CALLERS),
    ("GET", r"/health/live", "server_live", Door.OPEN),
    ("GET", r"/health/ready", "server_ready", Door.OPEN),
    ("GET", r"/models/stats", "statistics", Door.CALLERS),
    ("GET", _VERSIONED, "model_metadata", Door.CALLERS),
    ("GET", _VERSIONED + r"/ready", "model_ready", Door.CALLERS),
    ("GET", _VERSIONED + r"/config", "model_config", Door.CALLERS),
    ("GET", _VERSIONED + r"/stats", "statistics", Door.CALLERS),
    ("POST", _VERSIONED + r"/infer", "infer", Door.CALLERS),
    ("POST", r"/repository/index", "repository_index", Door.CALLERS),
    ("POST", _MODEL_CHANGE + r"/load", "load", Door.ADMINS),
    ("POST", _MODEL_CHANGE + r"/unload", "unload", Door.ADMINS),
)
_PREFIX = "/v2"


class Place(NamedTuple):
    """What a path leads to."""

    method: str
    name: str
    door: Door
    names: Names


_PATTERNS: list[tuple[Pattern[str], str, str, Door]] = [
    (compile_pattern(_PREFIX + path + "/?"), method, name, door) for method, path, name, door in _PATHS
]


class Oip:
    """Answers every call below `/v2`."""

    def __init__(self, plane: DataPlane, settings: Settings) -> None:
        self._plane = plane
        self.infer = InferHandler(plane, settings)
        self._json_limits = settings.small_json_limits
        self._handlers: Mapping[str, Handler] = {name: getattr(self, name) for _, _, name, _ in _PATHS}

    async def __call__(self, call: Call) -> Reply:
        """Answer one call.

        Raises: ServeError, or starlette's HTTPException for a wrong method.
        """
        path, method = call.scope["path"], call.scope["method"]
        place = _find(path)
        call.enter(Door.CALLERS if place is None else place.door)
        if place is None:
            raise NotFound("path", path, "one of the Open Inference Protocol")
        if method != place.method:
            raise HTTPException(STATUS[MethodNotAllowed], headers={"Allow": place.method})
        return await self._handlers[place.name](call, **place.names)

    async def server_metadata(self, _: Call) -> Reply:
        return json_reply(self._plane.server_metadata())

    async def server_live(self, _: Call) -> Reply:
        self._plane.check_live()
        return json_reply({"live": True})

    async def server_ready(self, _: Call) -> Reply:
        self._plane.check_ready()
        return json_reply({"ready": True})

    async def model_ready(self, _: Call, model: str, version: str | None) -> Reply:
        self._plane.check_model_ready(model, version)
        return json_reply({"name": model, "ready": True})

    async def model_metadata(self, _: Call, model: str, version: str | None) -> Reply:
        return json_reply(self._plane.model_metadata(model, version))

    async def model_config(self, _: Call, model: str, version: str | None) -> Reply:
        return json_reply(self._plane.model_config(model, version))

    async def statistics(self, _: Call, model: str | None = None, version: str | None = None) -> Reply:
        return json_reply(self._plane.statistics(model, version))

    async def repository_index(self, call: Call) -> Reply:
        only_ready = (await _read_object(call, self._json_limits)).get("ready", False)
        if not isinstance(only_ready, bool):
            raise BadRequest("ready in the JSON body", only_ready, "true or false")
        return json_reply(self._plane.repository_index(only_ready=only_ready))

    async def load(self, call: Call, model: str) -> Reply:
        await self._plane.load(model, await _read_parameters(call, self._json_limits))
        return json_reply({})

    async def unload(self, call: Call, model: str) -> Reply:
        await self._plane.unload(model, await _read_parameters(call, self._json_limits))
        return json_reply({})


@lru_cache(maxsize=1024)
def _find(path: str) -> Place | None:
    """Return what a path leads to, None if there is no such path."""
    for pattern, method, name, door in _PATTERNS:
        match = pattern.fullmatch(path)
        if match:
            return Place(method, name, door, match.groupdict())
    return None


async def _read_object(call: Call, limits: JsonLimits) -> dict[str, Any]:
    """Return the body's JSON object; no body is an empty one."""
    body = await call.body()
    try:
        document = read_json(body, limits) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest("JSON body", str(error), "an object, or nothing") from error
    if not isinstance(document, dict):
        raise BadRequest("JSON body", type(document).__name__, "an object, or nothing")
    return document


async def _read_parameters(call: Call, limits: JsonLimits) -> list[str]:
    """Return the names of the parameters in the body."""
    parameters = (await _read_object(call, limits)).get("parameters", {})
    if not isinstance(parameters, dict):
        raise BadRequest("parameters in the JSON body", parameters, "an object")
    return list(parameters)
