"""Who may call which path: keys in both headers, open paths, the admin surface, rotation."""

import itertools
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
        assert (await client.get("http://localhost:9000/v1/controller", headers=bearer(ADMIN))).status_code == 200
        refused = await client.get("http://localhost:8000/v1/controller", headers=bearer(ADMIN))
        assert (refused.status_code, "the port of everyone" in refused.text) == (403, True)
        assert (await client.get("http://localhost:8000/v1/models", headers=bearer(ADMIN))).status_code == 200


# --- One reading of the path -----------------------------------------------------------------

KEYS_BY_ANY_NAME = [
    "/v1/keys", "/v1/keys%0A", "/v1/keys%0a", "/v1/keys%0D", "/v1/keys%0D%0A", "/v1/keys%00", "/v1/keys%20",
    "/v1/keys%09", "/v1/keys%0B", "/v1/keys%85", "/v1/keys%C2%85", "/v1/keys%E2%80%A8", "/v1/keys%250A",
    "/v1%2Fkeys", "/v1%2fkeys%0A",
    "/v1/keys;x", "/v1/keys;x%0A", "//v1/keys", "/v1//keys", "/v1/./keys", "/v1/x/../keys", "/v1/keys/", "/V1/KEYS",
    "/v1/%6Beys%0A", "/%0Av1/keys", "/v1/controller%0A", "/v1/controller",
]  # fmt: skip
CHANGES = [
    f"/v2/repository/models/{FAMILY}/{change}{end}"
    for change in ("load", "unload")
    for end in ("", "/", "%0A", "%0a%0a", "%0D", "%00", ";x", "%20", "%09")
] + [f"//v2/repository/models/{FAMILY}/unload", f"/v2/repository/models%2F{FAMILY}%2Funload"]
METHODS = ("GET", "POST", "HEAD", "OPTIONS", "TRACE")
ORIGIN = {"public": "http://localhost:8000", "admin": "http://localhost:9000"}


@pytest.mark.parametrize("require_auth", [True, False])
@pytest.mark.parametrize("has_admin_port", [True, False])
async def test_no_spelling_of_a_path_is_past_its_guard(tmp_path, require_auth, has_admin_port):
    """Whoever may not see keys, or change models, finds no way to write the path that a guard reads differently."""
    app = make_app(**access(tmp_path, require_auth=require_auth, admin_port=9000 if has_admin_port else None))
    wrong = [("admin", ACME), ("public", ACME), ("admin", None), ("public", None), ("public", STRANGER)]
    async with serving(app) as client:
        for port, key in [*wrong, *([("public", ADMIN)] if has_admin_port else [])]:
            for path, method in itertools.product([*KEYS_BY_ANY_NAME, *CHANGES], METHODS):
                headers = bearer(key) if key else {}
                response = await client.request(method, ORIGIN[port] + path, headers=headers)
                assert response.status_code in {401, 403, 404, 405}, (port, method, path)
                assert b"is_admin" not in response.content
        assert app.engine.shelf.families.keys() == {FAMILY}


@pytest.mark.parametrize("end", ["%0A", "%0a", "%0D", "%00", "/", ";x", "%20"])
async def test_a_path_ends_where_it_ends(client, end):
    for path in ("/v1/keys", "/v1/models", "/v1/usage", "/healthz", "/metrics", "/docs", "/openapi.json"):
        assert (await client.get(f"{path}{end}", headers=bearer(ADMIN))).status_code == 404, path


async def test_an_admins_view_of_others_is_on_the_admin_port_too(tmp_path):
    async with serving(make_app(**access(tmp_path, admin_port=9000))) as client:
        for query, expected in [("tenant=*", 403), ("tenant=acme", 403), ("tenant=ops", 200), ("", 200)]:
            response = await client.get(f"{ORIGIN['public']}/v1/usage?{query}", headers=bearer(ADMIN))
            assert response.status_code == expected, query
        assert (await client.get(f"{ORIGIN['admin']}/v1/usage?tenant=*", headers=bearer(ADMIN))).status_code == 200


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
async def test_a_key_is_shown_once(client, name):
    form = "Bearer {}" if name == "Authorization" else "{}"
    for keys in ((ACME, ADMIN), (ADMIN, ACME), (ADMIN, ADMIN)):
        response = await client.get("/v1/keys", headers=[(name, form.format(key)) for key in keys])
        assert response.status_code == 401


@pytest.mark.parametrize(
    "day",
    ["2026-99-99", "2026-02-30", "2026-13-01", "0000-01-01", "2026-1-1", "20260101", "2026-01-01%0A", "2026-W01-1",
     "%D9%A2%D9%A0%D9%A2%D9%A6-01-01", "2026-01-01T00:00", "", "now"],
)  # fmt: skip
async def test_a_day_that_is_none_is_refused(client, day):
    response = await client.get(f"/v1/usage?since={day}", headers=bearer(ACME))
    assert (response.status_code, response.json()["error"].split(";")[0]) == (400, "since in the query")
    assert (await client.get("/v1/usage?since=2024-02-29", headers=bearer(ACME))).status_code == 200
