"""The route table, and the FastAPI application that routes and describes all but the hot paths."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server import __version__
from server.app import docs, page
from server.app.controller import ControllerView
from server.app.health import Exposition, Health
from server.app.openapi import describe
from server.app.usage import UsageView
from server.classify import Classify, Models
from server.classify.describe import classify_operation, error_responses, quote_operation
from server.errors import ServeError
from server.wire import Call, Reply

Handler = Callable[[Call], Awaitable[Reply]]
Render = Callable[[Exception, Call], Reply]
_FAILURES = (ServeError, HTTPException, RequestValidationError, Exception)


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A surface's handler, with the OpenAPI operation that describes it."""

    method: str
    path: str
    handler: Handler
    operation: dict[str, Any]

    async def respond(self, request: Request) -> Response:
        """Answer as the router wants it."""
        return _to_response(await self.handler(request.scope["call"]))


def build_endpoints(classify: Classify, models: Models) -> list[Endpoint]:
    """Return the endpoints that read their call themselves."""
    return [
        Endpoint("POST", "/v1/classify", classify, classify_operation()),
        Endpoint("POST", "/v1/models/{model}/quote", models.quote, quote_operation()),
    ]


def build_api(
    endpoints: list[Endpoint], models: Models, view: ControllerView, usage: UsageView, health: Health, render: Render
) -> FastAPI:
    """Return the application behind every path; all its failures go through `render`."""
    api = FastAPI(
        title="adatape-serve",
        version=__version__,
        summary="Image classification with adaptive compute: cap what an answer may cost, and see what it cost.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=dict.fromkeys(_FAILURES, _handler(render)),
    )
    api.router.routes += [
        *(Route(endpoint.path, endpoint.respond, methods=[endpoint.method]) for endpoint in endpoints),
        _get("/v1/models", models.index, "models", 401),
        _get("/v1/models/{model}", models.detail, "models", 401, 404),
        _get("/v1/models/{model}/curve", models.curve, "models", 401, 404),
        _get("/v1/controller", view.controller, "operation", 401, 403),
        _get("/v1/usage", usage.usage, "operation", 400, 401, 403, 404, 503),
        _get("/v1/keys", usage.keys, "operation", 401, 403, 404),
        _get("/healthz", health.live, "operation", 503),
        _get("/readyz", health.ready, "operation", 503),
        _get("/metrics", health.metrics, "operation", response_class=Exposition),
        Route("/docs", docs.page),
        Route("/docs/{name}", docs.asset),
        Route("/static/{path:path}", page.asset),
        Route("/", page.home),
    ]
    api.openapi = lambda: describe(api, {(e.path, e.method): e.operation for e in endpoints})  # type: ignore[method-assign]
    return api


def _get(path: str, endpoint: Callable[..., Any], tag: str, *errors: int, **options: Any) -> APIRoute:
    """Return a documented route; its summary is what the endpoint's docstring promises."""
    return APIRoute(
        path,
        endpoint,
        methods=["GET"],
        tags=[tag],
        summary=re.split("[.;]", endpoint.__doc__ or "", maxsplit=1)[0],
        operation_id=endpoint.__name__,
        responses=error_responses((*errors, 500)),
        **options,
    )


def _to_response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers), reply.content_type)


def _handler(render: Render) -> Callable[[Request, Any], Coroutine[Any, Any, Response]]:
    async def handle(request: Request, error: Any) -> Response:
        return _to_response(render(error, request.scope["call"]))

    return handle
