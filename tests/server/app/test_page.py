"""The page as the server sends it: types, caching, the policy, and files that comply with it."""

import re

import pytest

from server.app.page import CONTENT_TYPES, FOLDER, INDEX
from tests.server.surface import serving

FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
NAMES = [path.relative_to(FOLDER).as_posix() for path in FILES]
MAX_FILE_LINES = 250
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


def text(name):
    return (FOLDER / name).read_text(encoding="utf-8")


# --- What the server says of them ------------------------------------------------------------


async def test_the_page_is_at_the_root(client):
    response = await client.get("/")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.text == text(INDEX)


@pytest.mark.parametrize("name", NAMES)
async def test_every_file_is_served_with_its_type_and_the_policy(client, name):
    response = await client.get(f"/static/{name}")
    assert response.status_code == 200
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["Content-Type"] == CONTENT_TYPES[FOLDER.joinpath(name).suffix]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    directives = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert directives["default-src"] == "'none'"
    assert (directives["script-src"], directives["style-src"]) == ("'self'", "'self'")
    assert "unsafe" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("known", ["{tag}", "W/{tag}", '"old", {tag}'])
async def test_what_the_browser_has_is_not_sent_again(client, known):
    first = await client.get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await client.get("/", headers={"If-None-Match": known.format(tag=first.headers["ETag"])})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (await client.get("/", headers={"If-None-Match": '"old"'})).status_code == 200


async def test_a_head_tells_the_length(client):
    response = await client.head("/static/js/main.js")
    assert int(response.headers["Content-Length"]) == len((FOLDER / "js/main.js").read_bytes())


@pytest.mark.parametrize("path", ["nope.js", "js", "js/", "../app/page.py", "..%2fapp%2fpage.py", "js//main.js", ""])
async def test_nothing_else_is_served(client, path):
    response = await client.get(f"/static/{path}")
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


@pytest.mark.parametrize("path", ["/", "/static/js/main.js"])
async def test_a_wrong_method_is_told_the_right_one(client, path):
    response = await client.post(path)
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
    assert list(response.json()) == ["error"]


# --- What they hold --------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_files_are_short_and_of_a_served_kind(name):
    assert len(text(name).splitlines()) <= MAX_FILE_LINES
    assert FOLDER.joinpath(name).suffix in CONTENT_TYPES


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_host(name):
    assert re.findall(r"(?:\w+:)?//\w[\w.-]*\.\w+\S*", text(name).replace(SVG_NAMESPACE, "")) == []


def test_the_page_has_nothing_inline():
    page = text(INDEX)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL) == [""]


def test_no_script_writes_markup():
    scripts = "".join(text(name) for name in NAMES if name.endswith(".js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts)


def test_the_page_reaches_every_file():
    """What `/` links, and what that imports, is all there is: no file is missing, and none is left over."""
    found, ahead = set(), [INDEX]
    while ahead:
        name = ahead.pop()
        found.add(name)
        links = re.findall(r'(?:src|href)="static/([^"]+)"', text(name)) if name == INDEX else []
        folder = name.rpartition("/")[0]
        imports = re.findall(r'^(?:import|export) .* from "\./([^"]+)";$', text(name), re.MULTILINE)
        ahead += {*links, *(f"{folder}/{module}" for module in imports)} - found
    assert sorted(found) == NAMES


def test_scripts_find_their_elements():
    scripts = "".join(text(name) for name in NAMES if name.endswith(".js"))
    sought = set(re.findall(r'byId\("([\w-]+)"\)', scripts))
    given = set(re.findall(r'\sid="([\w-]+)"', text(INDEX)))
    assert sought
    assert sought <= given
