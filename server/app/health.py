"""`/healthz`, `/readyz` and `/metrics`: whether the process lives, whether it is ready, and what it has done."""

import asyncio
import time

from fastapi import Request
from starlette.responses import Response

from server.classify.schemas import Liveness, Readiness
from server.engine import Engine
from server.errors import ModelNotReady
from server.metrics import Metrics


class Exposition(Response):
    """Prometheus text; the documented media type of `/metrics`."""

    media_type = "text/plain"


class HealthView:
    """Serves orchestrators and Prometheus."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._loop_lag_s = 0.0
        metrics.loop_lag_s.watch(lambda: self._loop_lag_s)

    async def live(self) -> Liveness:
        """Say that the process answers and its engine moves; restart it where this fails."""
        self._engine.check_live()
        return Liveness()

    async def ready(self) -> Readiness:
        """Say whether requests are admitted; send none where this fails."""
        if not self._engine.is_ready:
            raise ModelNotReady("the server is not ready", "a start or a shutdown", "a server that has started")
        return Readiness(device=self._engine.device, models=self._engine.repository.families())

    async def metrics(self, request: Request) -> Response:
        """Show the metrics, in the format that the Accept header asks for; no request waits for the rendering."""
        self._loop_lag_s = await _turn_s()
        render = self._metrics.snapshot().render
        body, content_type = await asyncio.to_thread(render, request.headers.get("accept", ""))
        return Exposition(body, headers={"Content-Type": content_type})


async def _turn_s() -> float:
    """Return how long one turn of the event loop takes now."""
    started_s = time.monotonic()
    await asyncio.sleep(0)
    return time.monotonic() - started_s
