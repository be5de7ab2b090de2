"""Ids, the one error form on every path, the lifespan, health and documentation."""

import logging
import re

import pytest

from server.backends.fake import FAMILY
from server.errors import BackendFailed, Overloaded
from tests.server.surface import Wire, client_of, make_app, photo, scope, serving


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


# --- Errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/classify/", "/v1/models/", "/docs/secret.txt", "/v1/models/a/b"])
async def test_an_unknown_path(client, path):
    response = await client.get(path)
    assert response.status_code == 404
    assert response.json() == {"error": f"path; got {path}; expected one that /docs lists"}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/classify", "POST"),
        ("PUT", "/v1/classify", "POST"),
        ("DELETE", f"/v1/models/{FAMILY}/quote", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PATCH", "/healthz", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(client, method, path, allow):
    response = await client.request(method, path)
    assert response.status_code == 405
    assert allow in response.headers["Allow"]
    assert response.json() == {"error": f"method for {path}; got {method}; expected {response.headers['Allow']}"}


@pytest.mark.parametrize("path", ["/v1/classify", f"/v1/models/{FAMILY}/quote"])
async def test_a_bug_is_a_500_that_leaks_nothing(monkeypatch, caplog, path):
    app = make_app()

    def fail(*_):
        raise RuntimeError("secret detail")

    async with serving(app) as client:
        monkeypatch.setattr(app.engine.shelf, "manifest", fail)
        with caplog.at_level(logging.ERROR):
            response = await client.post(
                path, content=photo() if "classify" in path else b"", headers={"X-Request-Id": "me"}
            )
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed unexpectedly; expected a bug report that names request me"}
    (record,) = [record for record in caplog.records if record.name == "adatape.app"]
    assert "request=me" in record.getMessage()
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(("wait_s", "shown"), [(0.01, "1"), (2.2, "3"), (None, None)])
async def test_retry_after_is_in_whole_seconds(monkeypatch, wait_s, shown):
    async def refuse(_):
        raise Overloaded("server", "too much", "less", retry_after_s=wait_s)

    app = make_app()
    async with serving(app) as client:
        monkeypatch.setattr(app.engine, "infer", refuse)
        response = await client.post("/v1/classify", content=photo())
    assert (response.status_code, response.headers.get("Retry-After")) == (503, shown)
    assert response.json() == {"error": "server; got too much; expected less"}


async def test_what_a_caller_sends_cannot_break_the_error(client):
    response = await client.post(
        "/v1/classify", params={"model": 'a"\\\n\ud800'.encode("utf-8", "surrogatepass")}, content=photo()
    )
    assert response.status_code == 404
    assert response.json()["error"].startswith("model; got ")


async def test_each_refusal_is_counted_once():
    async with serving() as client:
        await client.get("/nope")
        await client.post("/v1/classify", content=b"no image")
        await client.post("/v1/classify", params={"max_flops": 1}, content=photo())  # refused by the engine
        await client.post(f"/v1/models/{FAMILY}/quote", params={"max_tape": -1})
        text = (await client.get("/metrics")).text
    counts = dict(re.findall(r'adatape_errors_total{reason="(\w+)"} (\d+)', text))
    assert {reason: int(count) for reason, count in counts.items() if count != "0"} == {
        "not_found": 1,
        "not_an_image": 1,
        "bad_request": 2,
    }


# --- Ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/v1/models"])
async def test_every_answer_carries_the_callers_id(client, path):
    assert (await client.get(path, headers={"X-Request-Id": "abc-123"})).headers["X-Request-Id"] == "abc-123"


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "é"])
async def test_an_id_that_cannot_be_logged_is_replaced(client, given):
    shown = (await client.get("/healthz", headers={"X-Request-Id": given.encode()})).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{16}", shown)


async def test_new_ids_differ(client):
    ids = {(await client.post("/v1/classify", content=photo())).json()["id"] for _ in range(5)}
    assert len(ids) == 5


# --- Lifespan and health ---------------------------------------------------------------------


async def test_the_lifespan_starts_and_drains_the_engine():
    app = make_app()
    states = []

    class Lifespan(Wire):
        async def receive(self):
            states.append(app.engine.is_ready)
            return await super().receive()

    wire = Lifespan({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    await app({"type": "lifespan"}, wire.receive, wire.send)
    assert [message["type"] for message in wire.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [*states, app.engine.is_ready] == [False, True, False]


async def test_a_server_with_nothing_loaded_does_not_start(monkeypatch):
    def fail(*_):
        raise BackendFailed("graph", "broken", "whole")

    app = make_app()
    monkeypatch.setattr("server.backends.fake.FakeBackend.load", fail)
    wire = Wire({"type": "lifespan.startup"})
    await app({"type": "lifespan"}, wire.receive, wire.send)
    assert wire.sent == [{"type": "lifespan.startup.failed", "message": "no family could be loaded; see above"}]
    await app.engine.drain(0.0)


async def test_readiness_follows_the_engine():
    app = make_app()
    async with client_of(app) as client:
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).json() == {"status": "live"}
    async with serving(app) as client:
        ready = (await client.get("/readyz")).json()
        assert ready == {"status": "ready", "device": "FakeExecutionProvider", "models": [FAMILY]}
    async with client_of(app) as client:
        response = await client.get("/readyz")
        assert (response.status_code, list(response.json())) == (503, ["error"])


async def test_a_websocket_gets_no_answer_of_ours():
    wire = Wire()
    await make_app()({**scope(), "type": "websocket"}, wire.receive, wire.send)
    assert wire.sent == []


# --- Documentation ---------------------------------------------------------------------------


async def test_the_documentation_loads_nothing_from_elsewhere(client):
    page = (await client.get("/docs")).text
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", page)
    assert "validatorUrl: null" in (await client.get("/docs/start.js")).text
    for path in re.findall(r'(?:src|href)="(/docs/[^"]+)"', page):
        asset = await client.get(path)
        assert asset.status_code == 200
        assert len(asset.content) > 300


async def test_metrics_are_prometheus_text(client):
    response = await client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert "# TYPE adatape_requests_total counter" in response.text
    open_metrics = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")
