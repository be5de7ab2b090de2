"""JSON is limited in values and depth, wherever a request brings it."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRequest, PayloadTooLarge
from server.http.bounded_json import STRUCTURE_WEIGHT, TEXT_BYTES, read_json
from server.settings import DEEPEST_JSON, JsonLimits, Settings
from tests.server.surface import serving

MANY = 1_000_000


def nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


@pytest.mark.parametrize(
    ("text", "cost"),
    [(b"[1,2,3]", 2 + 8), (b'{"a":[]}', 3 * 8), (b"[[],[]]", 3 * 8 + 1), (b'["a,b"]', 8 + 1)],
)
def test_json_is_counted_before_it_is_parsed(text, cost):
    assert STRUCTURE_WEIGHT == 8
    assert read_json(text, JsonLimits(cost, 64)) == json.loads(text)
    with pytest.raises(PayloadTooLarge, match=f"JSON values; got {cost}; expected at most {cost - 1}"):
        read_json(text, JsonLimits(cost - 1, 64))


def test_text_is_bounded_as_well():
    text = b'"' + b"a" * (10 * TEXT_BYTES - 2) + b'"'
    assert read_json(text, JsonLimits(10, 64)) == json.loads(text)
    with pytest.raises(
        PayloadTooLarge, match=f"bytes of JSON; got {10 * TEXT_BYTES}; expected at most {9 * TEXT_BYTES}:"
    ):
        read_json(text, JsonLimits(9, 64))


def depth_of(document: object) -> int:
    if isinstance(document, dict):
        document = list(document.values())
    return 1 + max(map(depth_of, document), default=0) if isinstance(document, list) else 0


documents = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('[]{}\\"', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("[{", max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(documents, st.integers(1, 6))
def test_depth_is_what_it_is_whatever_strings_hold(document, max_depth):
    text = json.dumps(document).encode()
    if depth_of(document) <= max_depth:
        assert read_json(text, JsonLimits(MANY, max_depth)) == document
    else:
        with pytest.raises(BadRequest, match=f"depth of the JSON; got more than {max_depth}; expected at most"):
            read_json(text, JsonLimits(MANY, max_depth))


@pytest.mark.parametrize("depth", [DEEPEST_JSON, DEEPEST_JSON + 1, 60_000])
def test_what_the_parser_itself_refuses_is_told_alike(depth):
    with pytest.raises(BadRequest, match="depth of the JSON; got more than 64; expected at most 64 levels"):
        read_json(nested(depth).encode(), JsonLimits(MANY, 64))


def test_the_deepest_setting_is_what_the_parser_takes():
    assert read_json(nested(DEEPEST_JSON).encode(), JsonLimits(MANY, DEEPEST_JSON))
    with pytest.raises(ValueError, match="max_json_depth"):
        Settings(max_json_depth=DEEPEST_JSON + 1)


def test_depth_is_set_in_the_environment_like_everything(monkeypatch):
    monkeypatch.setenv("ADATAPE_MAX_JSON_DEPTH", "7")
    settings = Settings()
    assert (settings.json_limits.max_depth, settings.small_json_limits.max_depth) == (7, 7)


INFER = "/v2/models/adatape_fake/infer"
DEEP = {
    "/v1/classify": '{"image":"","max_tape":%s}',
    "/v1/models/adatape_fake/quote": '{"max_tape":%s}',
    INFER: '{"inputs":[{"name":"image","datatype":"UINT8","shape":[1],"data":%s}]}',
    "/v2/repository/index": '{"ready":%s}',
    "/v2/repository/models/adatape_fake/load": '{"parameters":%s}',
    "/v2/repository/models/adatape_fake/unload": '{"parameters":%s}',
}


@pytest.mark.parametrize(("path", "coding"), [*((path, "identity") for path in DEEP), (INFER, "gzip")])
async def test_every_entry_refuses_what_is_too_deep(path, coding):
    body = (DEEP[path] % nested(10, "1")).encode()
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    content = gzip.compress(body) if coding == "gzip" else body
    async with serving(max_json_depth=10) as client:
        answer = await client.post(path, content=content, headers=headers)
        assert answer.status_code == 400
        expected = "depth of the JSON; got more than 10; expected at most 10 levels of lists and objects"
        assert answer.json() == {"error": expected}


async def test_the_documents_place_in_a_binary_body_is_judged_too():
    head = (DEEP[INFER] % nested(10)).encode()
    async with serving(max_json_depth=10) as client:
        headers = {"Inference-Header-Content-Length": str(len(head))}
        answer = await client.post(INFER, content=head + bytes(10), headers=headers)
        assert (answer.status_code, answer.json()["error"][:17]) == (400, "depth of the JSON")
