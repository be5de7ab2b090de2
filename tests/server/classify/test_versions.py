"""A request that names a version or a label of a model gets that version, on every surface."""

import asyncio

import pytest

from server.app import create_app
from server.backends.fake import FAMILY, FakeBackend
from server.engine import Engine
from server.metrics import Metrics
from server.models.repository import Repository
from server.settings import Settings
from tests.server.models.test_repository import write_family
from tests.server.surface import photo, serving
from tests.server.test_canary import label


@pytest.fixture
def app(tmp_path):
    for version in ("1", "2", "3"):
        write_family(tmp_path, version=version)
    label(tmp_path, stable="1", canary="2", canary_share=0.000001)
    settings, metrics = Settings(backend="fake"), Metrics()
    return create_app(settings, Engine(Repository(tmp_path), FakeBackend(), metrics, settings), metrics)


CASES = {None: "1", "1": "1", "2": "2", "stable": "1", "canary": "2"}


async def test_classify_takes_what_the_protocol_takes(app):
    async with serving(app) as client:
        for version, expected in CASES.items():
            query = {} if version is None else {"version": version}
            answer = await client.post("/v1/classify", params=query, content=photo())
            assert (answer.status_code, answer.json().get("version")) == (200, expected), version
            header = {} if version is None else {"X-Version": version}
            answer = await client.post("/v1/classify", headers=header, content=photo())
            assert answer.json()["version"] == expected
            path = f"/v2/models/{FAMILY}" + (f"/versions/{version}" if version else "")
            assert (await client.get(f"{path}/ready")).status_code == 200
            described = await client.get(f"/v1/models/{FAMILY}", params=query)
            assert described.json()["version"] == expected


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ("3", 503, "model; got adatape_fake version 3; expected version 1, which is loaded"),
        ("7", 404, "version of adatape_fake; got 7; expected one of: 1, 2, 3"),
        ("beta", 404, "version of adatape_fake; got beta; expected one of: 1, 2, 3"),
    ],
)
async def test_what_cannot_be_had_is_refused_alike(app, version, status, message):
    async with serving(app) as client:
        answer = await client.post("/v1/classify", params={"version": version}, content=photo())
        assert (answer.status_code, answer.json()) == (status, {"error": message})
        answer = await client.get(f"/v2/models/{FAMILY}/versions/{version}")
        assert (answer.status_code, answer.json()) == (status, {"error": message})


async def test_without_a_canary_its_label_is_unknown(app, tmp_path):
    (tmp_path / FAMILY / "labels.json").unlink()
    await asyncio.to_thread(app.engine.repository.scan)
    async with serving(app) as client:
        for version, status in (("canary", 404), ("stable", 200)):
            answer = await client.post("/v1/classify", params={"version": version}, content=photo())
            assert answer.status_code == status, answer.text
