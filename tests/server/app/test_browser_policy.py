"""Only our own web pages may make a browser call the server, unless the operator lists others."""

import itertools

import httpx
import pytest
from pydantic import ValidationError

from server.backends.fake import FAMILY
from server.settings import Settings
from tests.server.surface import make_app, photo, serving
from tests.server.tenancy.tenants import ACME, ADMIN, STRANGER, access, bearer

EVIL, APP = "http://evil.example", "https://app.example"
CHANGE = f"/v2/repository/models/{FAMILY}/unload"
GUARDED = [
    ("POST", CHANGE),
    ("POST", f"/v2/repository/models/{FAMILY}/load"),
    ("POST", f"/v2/models/{FAMILY}/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v1/classify"),
    ("POST", f"/v1/models/{FAMILY}/quote"),
    ("GET", f"/v2/models/{FAMILY}"),
    ("GET", "/v2"),
    ("GET", "/v1/models"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/controller"),
    ("GET", "/nope"),
    ("PUT", CHANGE),
    ("OPTIONS", CHANGE),
]
OPEN = ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v2/health/live", "/static/js/main.js"]
PAGES = [
    {"Origin": EVIL},
    {"Origin": "null"},
    {"Origin": "http://localhost:1234"},
    {"Origin": "https://localhost:8443"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "chrome-extension://abc"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
    {"Sec-Fetch-Site": "same-origin", "Origin": EVIL},
    {"Referer": f"{EVIL}/page"},
    {"Referer": "http://localhost@evil.example/"},
    {"Origin": EVIL, "Content-Type": "text/plain"},
    {"Origin": EVIL, "Content-Type": "application/x-www-form-urlencoded"},
    {"Origin": EVIL, **bearer("of nobody")},
]
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:80",
    "localhost.evil.example",
    "10.0.0.1",
    "0.0.0.0",
    "x",
    "LOCALHOST.com",
]
OWN_HOSTS = [
    "localhost",
    "LocalHost:8000",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:9",
    "127.8.8.8",
    "[::1]",
    "[::1]:8000",
]


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


async def status(client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]) -> int:
    return (await client.request(method, path, headers=headers)).status_code


# --- Where a call comes from -----------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_page_of_somebody_else_can_do_nothing(client, method, path):
    for page in PAGES:
        assert await status(client, method, path, page) == 403, page
    assert (await client.get("/v1/models")).json()["models"] != []


@pytest.mark.parametrize(("method", "path"), [*GUARDED, *(("GET", path) for path in OPEN)])
async def test_no_page_can_call_us_by_a_name_of_its_own(client, method, path):
    for host in FOREIGN_HOSTS:
        origin = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert await status(client, method, path, {"Host": host, **origin}) == 403, host


@pytest.mark.parametrize("host", OWN_HOSTS)
async def test_every_name_of_this_machine_is_ours(client, host):
    own = {"Host": host, "Origin": f"http://{host.lower()}", "Sec-Fetch-Site": "same-origin"}
    for headers in (
        own,
        {"Host": host},
        {"Host": host, "Sec-Fetch-Site": "none"},
        {"Host": host, "Referer": own["Origin"]},
    ):
        assert await status(client, "GET", "/v1/models", headers) == 200, headers


async def test_links_from_anywhere_lead_to_what_is_open(client):
    for path in OPEN:
        assert await status(client, "GET", path, {"Sec-Fetch-Site": "cross-site", "Referer": EVIL}) == 200, path


async def test_refusals_say_what_is_expected(client):
    refused = [await client.post(CHANGE, headers=headers) for headers in ({"Host": "a.example"}, {"Origin": EVIL})]
    assert [each.json()["error"] for each in refused] == [
        "Host; got a.example; expected localhost, a loopback address, or one of allowed_host",
        f"a web page's call; got {EVIL}; expected one of this server's own pages, or of cors_origin",
    ]


async def test_a_name_that_is_allowed_is_ours_and_so_are_its_pages():
    async with serving(allowed_host="Models.example, other.example:8443") as client:
        for host, expected in [
            ("models.example", 200),
            ("MODELS.example.:80", 200),
            ("other.example:8443", 200),
            ("other.example", 403),
            ("other.example:80", 403),
            ("localhost", 200),
        ]:
            assert await status(client, "GET", "/v1/models", {"Host": host}) == expected, host
        behind = {"Host": "127.0.0.1:8000", "Origin": "https://models.example", "Sec-Fetch-Site": "same-origin"}
        assert await status(client, "GET", "/v1/models", behind) == 200


async def test_a_key_is_no_ambient_authority(tmp_path):
    """Who shows one need not be asked where they are; who is let in for being here must."""
    async with serving(**access(tmp_path, require_auth=False)) as client:
        for foreign in ({"Host": "a.example"}, {"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}):
            assert await status(client, "GET", "/v1/models", foreign) == 403
            assert await status(client, "GET", "/v1/models", {**foreign, **bearer(ACME)}) == 200
            assert await status(client, "GET", "/v1/keys", {**foreign, **bearer(ADMIN)}) == 200
            assert await status(client, "GET", "/v1/models", {**foreign, **bearer(STRANGER)}) == 401


@pytest.mark.parametrize("is_public", [True, False])
async def test_where_strangers_are_told_apart_nobody_is_judged_by_a_name(tmp_path, is_public):
    settings = {"host": "0.0.0.0", "insecure": True} if is_public else access(tmp_path)
    async with serving(**settings) as client:
        assert await status(client, "GET", "/healthz", {"Host": "10.0.0.1"}) == 200
        assert await status(client, "GET", "/v1/models", {"Host": "10.0.0.1", **bearer(ACME)}) == 200
    async with serving(**settings, allowed_host="models.example") as client:
        assert await status(client, "GET", "/healthz", {"Host": "10.0.0.1"}) == 403
        assert await status(client, "GET", "/healthz", {"Host": "models.example"}) == 200


# --- CORS ------------------------------------------------------------------------------------


async def preflight(client: httpx.AsyncClient, origin: str, path: str = "/v1/classify") -> httpx.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
    return await client.options(path, headers={"Origin": origin, "Sec-Fetch-Site": "cross-site", **asked})


async def test_without_cors_no_page_is_told_anything(client):
    assert (await preflight(client, APP)).status_code == 403
    response = await client.get("/healthz", headers={"Origin": APP})
    assert not [name for name in response.headers if name.startswith("access-control") or name == "vary"]


@pytest.mark.parametrize("path", ["/v1/classify", CHANGE, f"/v2/models/{FAMILY}/infer", "/nope"])
async def test_a_listed_page_is_told_that_it_may(path, tmp_path):
    for settings in ({}, access(tmp_path)):
        async with serving(cors_origin=f"{APP}, http://localhost:5173", **settings) as client:
            answer = await preflight(client, APP, path)
            assert (answer.status_code, answer.content) == (200, b"")
            assert answer.headers["Access-Control-Allow-Origin"] == APP
            assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST"
            assert answer.headers["Access-Control-Allow-Headers"] == "content-type,x-api-key"
            assert answer.headers["Vary"] == "Origin"
            assert "Access-Control-Allow-Credentials" not in answer.headers
            refused = await preflight(client, EVIL, path)
            assert refused.status_code in {401, 403}
            assert "Access-Control-Allow-Origin" not in refused.headers
            assert refused.headers["Vary"] == "Origin"


async def test_a_listed_page_may_read_answers_and_refusals():
    async with serving(cors_origin=f"http://localhost:5173,{APP}") as client:
        page = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
        for response in [
            await client.post("/v1/classify", content=photo(), headers=page),
            await client.post("/v1/classify", content=b"no image", headers=page),
            await client.get("/v1/models", headers=page),
            await client.get("/nope", headers=page),
        ]:
            assert response.headers["Access-Control-Allow-Origin"] == APP
            assert "X-Request-Id" in response.headers["Access-Control-Expose-Headers"]
        assert (await client.post(CHANGE, headers=page)).status_code == 200
        assert (await client.post(CHANGE, headers={"Origin": EVIL})).status_code == 403
        assert (await client.post(CHANGE, headers=[("Origin", APP), ("Origin", EVIL)])).status_code == 403


@pytest.mark.parametrize(
    "value",
    ["*", "null", "app.example", "https://app.example/", "https://app.example/x", "ftp://a", "https://", "https://a b",
     "https://u@a", "https://*.a.example", f"{APP},*", "https://a:b"],
)  # fmt: skip
def test_what_is_no_origin_ends_the_start(value):
    with pytest.raises(ValidationError, match=r"cors_origin(.|\n)*an origin such as https://app\.example"):
        Settings(cors_origin=value)


@pytest.mark.parametrize("value", ["*", "http://a.example", "a b", "a/b", "u@a", "*.a.example", "a.example:", "a..b"])
def test_what_is_no_host_ends_the_start(value):
    with pytest.raises(ValidationError, match=r"allowed_host(.|\n)*a host's name or address"):
        Settings(allowed_host=value)


def test_origins_have_one_form():
    origins = Settings(cors_origin="HTTPS://App.Example:443, http://localhost:80,http://[::1]:5173").cors_origin
    assert origins == ("https://app.example", "http://localhost", "http://[::1]:5173")


# --- What answers say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [bearer(ACME), {"X-API-Key": ACME}, bearer(STRANGER), {"Authorization": "Basic eDp5"}]
)
async def test_no_answer_to_a_key_is_kept_anywhere(tmp_path, headers):
    paths = [
        "/v1/models",
        "/v1/usage",
        "/v1/keys",
        "/nope",
        "/v2",
        "/v2/nope",
        "/",
        "/docs",
        "/metrics",
        "/static/icon.svg",
    ]
    async with serving(**access(tmp_path)) as client:
        for method, path in itertools.product(("GET", "POST"), paths):
            response = await client.request(method, path, headers=headers)
            assert response.headers.get_list("Cache-Control") == ["no-store"], (method, path)
        answered = await client.post("/v1/classify", content=photo(), headers=headers)
        assert answered.headers["Cache-Control"] == "no-store"
        assert (await client.get("/")).headers["Cache-Control"] == "no-cache"


async def test_every_html_answer_is_guarded(client):
    page, docs = await client.get("/"), await client.get("/docs")
    for response in (page, docs):
        assert response.headers["Content-Type"].startswith("text/html")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
        assert (policy["script-src"], policy["connect-src"], policy["base-uri"]) == ("'self'", "'self'", "'none'")
    assert "<script>" not in docs.text


def test_an_app_of_our_own_is_never_without_a_door():
    from server.app.routes import AuthorizedRoute

    assert [route for route in make_app().api.routes if not isinstance(route, AuthorizedRoute)] == []
