"""The route table, and the FastAPI application that routes and documents all but the most frequent requests."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from server import __version__
from server.app import docs, page
from server.app.controller import ControllerView
from server.app.docs import describe_api
from server.app.health import Exposition, HealthView
from server.app.usage import UsageView
from server.classify import ClassifyHandler, ModelsHandler
from server.classify.openapi import classify_operation, error_responses, quote_operation
from server.errors import ServeError
from server.http.exchange import AccessLevel, HttpReply, HttpRequest

Handler = Callable[[HttpRequest], Awaitable[HttpReply]]
Render = Callable[[Exception, HttpRequest], HttpReply]
_FAILURES = (ServeError, HTTPException, RequestValidationError, Exception)


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A handler that reads its request itself, with its access level and its OpenAPI operation."""

    method: str
    path: str
    handler: Handler
    operation: dict[str, Any]
    level: AccessLevel = AccessLevel.CALLERS

    async def respond(self, request: Request) -> Response:
        """Answer with a response of the router's kind."""
        return _to_response(await self.handler(request.scope["http_request"]))


class AuthorizedRoute(Route):
    """A route that checks its access level first. Only the router reads the path, so nothing can differ from it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], *, level: AccessLevel, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.level = level
        # Starlette's pattern ends in `$`, which also matches before a final newline.
        self.path_regex = re.compile(self.path_regex.pattern.removesuffix("$") + r"\Z")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the access level, then answer."""
        scope["http_request"].authorize(self.level)
        await super().handle(scope, receive, send)


class AuthorizedOperation(AuthorizedRoute, APIRoute):
    """An authorized route that the OpenAPI document lists."""


def build_endpoints(classify: ClassifyHandler, models: ModelsHandler) -> list[Endpoint]:
    """Return the endpoints that read their request themselves."""
    return [
        Endpoint("POST", "/v1/classify", classify, classify_operation()),
        Endpoint("POST", "/v1/models/{model}/quote", models.quote, quote_operation()),
    ]


def build_api(
    endpoints: list[Endpoint],
    models: ModelsHandler,
    view: ControllerView,
    usage: UsageView,
    health: HealthView,
    render: Render,
) -> FastAPI:
    """Return the application behind every path; all its failures go through `render`."""
    api = FastAPI(
        title="adatape-serve",
        version=__version__,
        summary="Image classification with adaptive compute: cap what an answer may cost, and see what it cost.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=dict.fromkeys(_FAILURES, _handler(render)),
    )
    api.router.routes += [
        *(AuthorizedRoute(each.path, each.respond, level=each.level, methods=[each.method]) for each in endpoints),
        _get("/v1/models", models.index, "models", 401, 403),
        _get("/v1/models/{model}", models.detail, "models", 401, 403, 404),
        _get("/v1/models/{model}/curve", models.curve, "models", 401, 403, 404),
        _get("/v1/controller", view.controller, "operation", 401, 403, level=AccessLevel.ADMINS),
        _get("/v1/usage", usage.usage, "operation", 400, 401, 403, 404, 503),
        _get("/v1/keys", usage.keys, "operation", 401, 403, 404, level=AccessLevel.ADMINS),
        _get("/healthz", health.live, "operation", 403, 503, level=AccessLevel.OPEN),
        _get("/readyz", health.ready, "operation", 403, 503, level=AccessLevel.OPEN),
        _get("/metrics", health.metrics, "operation", 403, level=AccessLevel.OPEN, response_class=Exposition),
        AuthorizedRoute("/openapi.json", _document(api), level=AccessLevel.OPEN),
        AuthorizedRoute("/docs", docs.page, level=AccessLevel.OPEN),
        AuthorizedRoute("/docs/{name}", docs.asset, level=AccessLevel.OPEN),
        AuthorizedRoute("/static/{path:path}", page.asset, level=AccessLevel.OPEN),
        AuthorizedRoute("/", page.home, level=AccessLevel.OPEN),
    ]
    api.router.default = _not_found
    api.openapi = lambda: describe_api(api, {(e.path, e.method): e.operation for e in endpoints})  # type: ignore[method-assign]
    return api


def _get(
    path: str,
    endpoint: Callable[..., Any],
    tag: str,
    *errors: int,
    level: AccessLevel = AccessLevel.CALLERS,
    **options: Any,
) -> APIRoute:
    """Return a documented route; its summary is what the endpoint's docstring promises."""
    return AuthorizedOperation(
        path,
        endpoint,
        level=level,
        methods=["GET"],
        tags=[tag],
        summary=re.split("[.;]", endpoint.__doc__ or "", maxsplit=1)[0],
        operation_id=endpoint.__name__,
        responses=error_responses((*errors, 500)),
        **options,
    )


def _document(api: FastAPI) -> Callable[[Request], Awaitable[Response]]:
    async def document(_: Request) -> Response:
        return JSONResponse(api.openapi())

    return document


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as the router calls it
    """Refuse a path without a route; a caller without a key does not learn which paths exist."""
    scope["http_request"].authorize(AccessLevel.CALLERS)
    raise HTTPException(404)


def _to_response(reply: HttpReply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)


def _handler(render: Render) -> Callable[[Request, Any], Coroutine[Any, Any, Response]]:
    async def handle(request: Request, error: Any) -> Response:
        return _to_response(render(error, request.scope["http_request"]))

    return handle
