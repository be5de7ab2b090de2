"""Who may call which path: keys in both headers, open paths, the admin surface, rotation."""

import logging

import pytest

from server.backends.fake import FAMILY
from server.tenancy import make_key
from tests.server.surface import make_app, photo, serving
from tests.server.tenancy.tenants import ACME, ADMIN, STRANGER, access, bearer, write_tenants

CLASSIFY = "/v1/classify"
ADMIN_PATHS = [
    ("GET", "/v1/controller"),
    ("POST", f"/v2/repository/models/{FAMILY}/load"),
    ("POST", f"/v2/repository/models/{FAMILY}/unload"),
]


@pytest.fixture
async def client(tmp_path):
    async with serving(**access(tmp_path)) as client:
        yield client


@pytest.mark.parametrize("headers", [bearer(ACME), {"X-API-Key": ACME}, {"Authorization": f"bearer  {ACME} "}])
async def test_a_key_opens_classify_and_oip(client, headers):
    assert (await client.post(CLASSIFY, content=photo(), headers=headers)).status_code == 200
    assert (await client.get(f"/v2/models/{FAMILY}", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [bearer(STRANGER), {"X-API-Key": STRANGER}, bearer(""), bearer("é"), {"X-API-Key": STRANGER, **bearer(ACME)}],
)
async def test_an_unknown_key_is_refused_and_not_repeated(client, headers, caplog):
    with caplog.at_level(logging.DEBUG):
        response = await client.post(CLASSIFY, content=photo(), headers={k: v.encode() for k, v in headers.items()})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="adatape-serve"'
    expected = "API key; got one that is not known; expected one in Authorization: Bearer or X-API-Key"
    assert response.json() == {"error": expected}
    assert STRANGER not in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", CLASSIFY),
        ("GET", "/v1/models"),
        ("GET", "/v2"),
        ("GET", "/v2/models/x"),
        ("GET", "/nope"),
        *ADMIN_PATHS,
    ],
)
async def test_without_a_key_nothing_is_told(client, method, path):
    response = await client.request(method, path)
    assert (response.status_code, response.json()["error"].split(";")[1]) == (401, " got none")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic bWU6bWU="}])
@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"]
)
async def test_what_orchestrators_and_scrapers_ask_needs_no_key(client, path, headers):
    assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize(("method", "path"), ADMIN_PATHS)
async def test_the_admin_surface_needs_an_admins_key(client, method, path):
    refused = await client.request(method, path, headers=bearer(ACME))
    assert (refused.status_code, refused.json()["error"]) == (
        403,
        f"{path}; got a key of acme; expected an admin's key",
    )
    assert (await client.request(method, path, headers=bearer(ADMIN))).status_code == 200


async def test_refusals_are_counted(tmp_path):
    app = make_app(**access(tmp_path))
    async with serving(app) as client:
        await client.post(CLASSIFY, content=photo())
        await client.get("/v1/controller", headers=bearer(ACME))
        shown = (await client.get("/metrics")).text
    assert 'adatape_errors_total{reason="unauthenticated"} 1.0' in shown
    assert 'adatape_errors_total{reason="forbidden"} 1.0' in shown
    assert "adk_" not in shown


async def test_on_loopback_a_key_is_optional_but_never_wrong(tmp_path):
    async with serving(**access(tmp_path, require_auth=False)) as client:
        assert (await client.post(CLASSIFY, content=photo())).status_code == 200
        assert (await client.post(CLASSIFY, content=photo(), headers=bearer(STRANGER))).status_code == 401
        assert (await client.get("/v1/controller")).status_code == 401


async def test_without_keys_loopback_may_do_everything():
    app = make_app()
    assert app.access is None
    async with serving(app) as client:
        assert (await client.get("/v1/controller", headers=bearer("whatever"))).status_code == 200


async def test_insecure_opens_inference_and_not_the_admin_surface():
    async with serving(host="0.0.0.0", insecure=True) as client:
        assert (await client.post(CLASSIFY, content=photo(), headers=bearer("of a proxy"))).status_code == 200
        assert (await client.get("/v1/controller")).status_code == 401


async def test_keys_rotate_without_a_restart(tmp_path):
    app = make_app(**access(tmp_path))
    path, (fresh, kept) = tmp_path / "tenants.toml", make_key()
    old = path.read_text()

    async def status(key):
        await app.engine.tenancy.refresh()
        return (await client.get("/v1/models", headers=bearer(key))).status_code

    async with serving(app) as client:
        assert (await status(ACME), await status(fresh)) == (200, 401)
        path.write_text(old.replace('keys = ["', f'keys = ["{kept.line}", "', 1))
        assert (await status(ACME), await status(fresh)) == (200, 200)
        path.write_text(f'[tenants.acme]\nkeys = ["{kept.line}"]')
        assert (await status(ACME), await status(fresh)) == (401, 200)


@pytest.mark.parametrize("text", ["[tenants.acme]\nwieght = 1", None])
async def test_a_broken_file_changes_nothing(tmp_path, text, caplog):
    app = make_app(**access(tmp_path))
    path = tmp_path / "tenants.toml"
    async with serving(app) as client:
        path.unlink() if text is None else path.write_text(text)
        await app.engine.tenancy.refresh()
        assert (await client.get("/v1/models", headers=bearer(ACME))).status_code == 200
        assert "tenants_refused" in caplog.text
        write_tenants(tmp_path)
        await app.engine.tenancy.refresh()
        assert (await client.get("/v1/models", headers=bearer(ACME))).status_code == 200


async def test_an_admin_port_takes_the_admin_surface_off_the_other(tmp_path):
    app = make_app(**access(tmp_path, admin_port=9000))
    async with serving(app) as client:
        assert (await client.get("http://test:9000/v1/controller", headers=bearer(ADMIN))).status_code == 200
        refused = await client.get("http://test:8000/v1/controller", headers=bearer(ADMIN))
        assert (refused.status_code, "the port of everyone" in refused.text) == (403, True)
        assert (await client.get("http://test:8000/v1/models", headers=bearer(ADMIN))).status_code == 200
