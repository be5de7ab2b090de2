"""Health, metadata, configuration, statistics and repository over HTTP."""

import orjson
import pytest

from server.backends.fake import FAMILY, MAX_BATCH_SIZE
from server.dataplane.metadata import EXTENSIONS
from tests.server.oip.calls import INFER, call, image, pixels
from tests.server.surface import make_app, serving

MODEL = f"/v2/models/{FAMILY}"


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


async def get(client, path, status=200):
    response = await client.get(path)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    return response.json()


async def post(client, path, status=200, **request):
    response = await client.post(path, **request)
    assert response.status_code == status, response.text
    return response.json()


# --- Health and metadata -----------------------------------------------------------------------


async def test_health(client):
    assert await get(client, "/v2/health/live") == {"live": True}
    assert await get(client, "/v2/health/ready") == {"ready": True}
    for path in (f"{MODEL}/ready", f"{MODEL}/versions/1/ready"):
        assert await get(client, path) == {"name": FAMILY, "ready": True}


async def test_a_server_that_drains_is_live_but_not_ready():
    app = make_app()
    async with serving(app) as client:
        await app.engine.drain(0)
        assert await get(client, "/v2/health/live")
        assert list(await get(client, "/v2/health/ready", 503)) == ["error"]
        assert list(await get(client, f"{MODEL}/ready", 503)) == ["error"]


async def test_server_metadata(client):
    metadata = await get(client, "/v2")
    assert metadata["name"] == "adatape-serve"
    assert metadata["extensions"] == list(EXTENSIONS)
    assert await get(client, "/v2/") == metadata


async def test_model_metadata(client):
    metadata = await get(client, MODEL)
    assert await get(client, f"{MODEL}/versions/1") == metadata
    assert (metadata["name"], metadata["versions"]) == (FAMILY, ["1"])
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]},
        {"name": "encoded", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "max_tape", "datatype": "INT32", "shape": [-1, 1]},
    ]
    assert [output["name"] for output in metadata["outputs"]] == [
        "logits", "probabilities", "tape_length", "tape_length_wanted", "flops",
    ]  # fmt: skip


async def test_model_config_agrees_with_the_metadata(client):
    config, metadata = await get(client, f"{MODEL}/config"), await get(client, MODEL)
    assert await get(client, f"{MODEL}/versions/1/config") == config
    assert config["max_batch_size"] == MAX_BATCH_SIZE
    for ports, described in ((config["input"], metadata["inputs"]), (config["output"], metadata["outputs"])):
        assert [port["name"] for port in ports] == [port["name"] for port in described]
        assert [[-1, *port["dims"]] for port in ports] == [port["shape"] for port in described]
        types = [port["data_type"].removeprefix("TYPE_").replace("STRING", "BYTES") for port in ports]
        assert types == [port["datatype"] for port in described]
    assert config["parameters"]["device"] == {"string_value": "FakeExecutionProvider"}


async def test_the_config_limits_what_one_request_may_hold():
    async with serving(max_request_samples=3) as client:
        assert (await get(client, f"{MODEL}/config"))["max_batch_size"] == 3
        await post(client, INFER, 400, content=orjson.dumps(call(image(pixels(batch=4)))))
        await post(client, INFER, content=orjson.dumps(call(image(pixels(batch=3)))))


# --- Statistics --------------------------------------------------------------------------------

DURATIONS = {
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
}  # fmt: skip


async def test_statistics_are_true(client):
    for batch in (1, 1, 3):
        await post(client, INFER, content=orjson.dumps(call(image(pixels(batch=batch)))))
    await post(client, INFER, 400, content=orjson.dumps(call(parameters={"min_accuracy": 0.99})))
    (stats,) = (await get(client, f"{MODEL}/stats"))["model_stats"]
    assert (stats["name"], stats["version"]) == (FAMILY, "1")
    assert (stats["inference_count"], stats["execution_count"]) == (5, 3)
    assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in stats["batch_stats"]] == [
        (1, 2),
        (3, 1),
    ]
    durations = stats["inference_stats"]
    assert durations.keys() == DURATIONS
    assert durations["fail"]["count"] == 1
    assert all(durations[name]["count"] == 3 for name in DURATIONS - {"fail", "cache_hit", "cache_miss"})
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert sum(durations[part]["ns"] for part in parts) == pytest.approx(durations["success"]["ns"], rel=0.01)


def leaves(value):
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


async def test_statistics_hold_integers_and_names_only(client):
    await post(client, INFER, content=orjson.dumps(call()))
    stats = await get(client, "/v2/models/stats")
    assert stats == await get(client, f"{MODEL}/versions/1/stats")
    assert {type(leaf) for leaf in leaves(stats)} == {int, str}


# --- Repository --------------------------------------------------------------------------------


async def test_a_model_is_unloaded_and_loaded_again(client):
    index = "/v2/repository/index"
    assert await post(client, index, content=b"") == [{"name": FAMILY, "version": "1", "state": "READY", "reason": ""}]
    await post(client, f"/v2/repository/models/{FAMILY}/unload", json={"parameters": {"unload_dependents": False}})
    assert (await post(client, index, json={}))[0]["state"] == "UNAVAILABLE"
    assert await post(client, index, json={"ready": True}) == []
    for path in (f"{MODEL}/ready", MODEL, f"{MODEL}/config", f"{MODEL}/stats", "/v2/health/ready"):
        assert list(await get(client, path, 503)) == ["error"]
    await post(client, INFER, 503, content=orjson.dumps(call()))
    assert await get(client, "/v2/models/stats") == {"model_stats": []}
    await post(client, f"/v2/repository/models/{FAMILY}/load", content=b"")
    await get(client, f"{MODEL}/ready")
    await post(client, INFER, content=orjson.dumps(call()))


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (f"models/{FAMILY}/load", {"parameters": {"config": "{}"}}, "repository request; got config; expected none"),
        (f"models/{FAMILY}/unload", {"parameters": {"now": 1}}, "got now; expected unload_dependents"),
        (f"models/{FAMILY}/load", {"parameters": []}, "parameters in the JSON body; got []"),
        (f"models/{FAMILY}/load", [], "JSON body; got list"),
        ("index", {"ready": "yes"}, "ready in the JSON body; got yes; expected true or false"),
    ],
)
async def test_a_wrong_repository_request(client, path, body, message):
    assert message in (await post(client, f"/v2/repository/{path}", 400, json=body))["error"]


# --- Errors ------------------------------------------------------------------------------------

UNKNOWN = [
    ("GET", "/v2/models/cat"),
    ("GET", "/v2/models/cat/ready"),
    ("GET", "/v2/models/cat/config"),
    ("GET", "/v2/models/cat/stats"),
    ("GET", f"{MODEL}/versions/9"),
    ("GET", f"{MODEL}/versions/9/ready"),
    ("POST", "/v2/models/cat/infer"),
    ("POST", "/v2/repository/models/cat/load"),
    ("POST", "/v2/repository/models/cat/unload"),
    ("GET", "/v2/models"),
    ("GET", "/v2/models/a/b/c"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v20"),
    ("GET", "/v2/models//ready"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
async def test_what_does_not_exist_is_not_found(client, method, path):
    content = orjson.dumps(call()) if path.endswith("infer") else b""
    response = await client.request(method, path, content=content)
    assert response.status_code == 404, response.text
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", "GET"),
        ("GET", INFER, "POST"),
        ("PUT", INFER, "POST"),
        ("DELETE", MODEL, "GET"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/v2/models/stats", "GET"),
        ("PATCH", "/v2/health/live", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(client, method, path, allowed):
    response = await client.request(method, path)
    assert (response.status_code, response.headers["Allow"]) == (405, allowed)
    assert response.json() == {"error": f"method for {path}; got {method}; expected {allowed}"}


async def test_names_are_decoded_once(client):
    assert (await client.get(f"/v2/models/{FAMILY.replace('_', '%5F')}")).status_code == 200
    assert (await client.get(f"/v2/models/{FAMILY.replace('_', '%255F')}")).status_code == 404
