"""The application over the fake backend, in this process: what the tests of the surfaces share."""

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
from PIL import Image

from server.app import App, create_app
from server.backends.fake import SIDE_PX
from server.engine import build_engine
from server.http.exchange import Message
from server.metrics import Metrics
from server.settings import Settings


def make_app(**overrides: Any) -> App:
    settings = Settings(backend="fake", **overrides)
    metrics = Metrics()
    return create_app(settings, build_engine(settings, metrics), metrics)


@asynccontextmanager
async def serving(app: App | None = None, **overrides: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Start the engine, give a client of its application, drain."""
    app = app or make_app(**overrides)
    await app.engine.start()
    async with client_of(app) as client:
        yield client
    await app.engine.drain(1.0)


def client_of(app: App) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def photo(level: int = 128, size: tuple[int, int] = (SIDE_PX, SIDE_PX), kind: str = "PNG") -> bytes:
    """Return an image whose mean, and so the tape it wants, is `level`, with its classes ranked by their bytes."""
    pixels = np.full((size[1], size[0], 3), level, np.uint8)
    pixels[0, :3, 0] = (level // 2, level, min(255, level + 40))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Wire:
    """An ASGI connection by hand: what the client sends, and all that it gets."""

    def __init__(self, *messages: Message) -> None:
        self.incoming = list(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def scope(method: str = "POST", path: str = "/v1/classify", headers: dict[str, str] | None = None) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}


async def result(client: httpx.AsyncClient, **request: Any) -> dict[str, Any]:
    """Classify one image; give its result."""
    response = await client.post("/v1/classify", **request)
    assert response.status_code == 200, response.text
    (only,) = response.json()["results"]
    return only


async def error(client: httpx.AsyncClient, status: int, **request: Any) -> str:
    """Classify in vain; give the message."""
    response = await client.post("/v1/classify", **request)
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    return response.json()["error"]
