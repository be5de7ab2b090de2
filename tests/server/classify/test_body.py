"""The three kinds of body, and the refusals of wrong ones."""

import pytest

from server.errors import Cancelled
from server.http.body_memory import BodyMemory
from server.http.exchange import HttpRequest
from tests.server.surface import Wire, as_base64, error, photo, result, scope, serving


async def test_the_three_kinds_of_body_give_the_same_answer(client):
    raw = await result(client, content=photo())
    form = await result(client, files={"file": ("me.png", photo(), "image/png")})
    text = await result(client, json={"image": as_base64(photo())})
    many = await result(client, json={"images": [as_base64(photo())]})
    url = await result(client, json={"image": "data:image/png;base64," + as_base64(photo())})
    assert form.pop("file") == "me.png"
    answers = [(each["predictions"], each["receipt"]["tape_length"]) for each in (raw, form, text, many, url)]
    assert all(each == answers[0] for each in answers)


@pytest.mark.parametrize(
    "kind", [None, "image/png", "image/jpeg", "application/octet-stream", "nonsense", "text/plain"]
)
async def test_a_raw_body_needs_no_content_type(client, kind):
    headers = {} if kind is None else {"Content-Type": kind}
    assert (await result(client, content=photo(), headers=headers))["predictions"]


async def test_a_large_body_of_each_kind_is_taken_apart(client):
    large = photo(size=(400, 400), kind="BMP")
    answers = [
        await result(client, content=large),
        await result(client, files={"file": large}),
        await result(client, json={"image": as_base64(large)}),
    ]
    assert len(large) > 256 * 1024
    assert all(answer["predictions"] == answers[0]["predictions"] for answer in answers)


async def test_base64_may_have_line_breaks(client):
    text = as_base64(photo(size=(40, 30)))
    lines = "\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    assert (await result(client, json={"image": lines}))["predictions"]


async def test_several_files_are_answered_in_order_by_name(client):
    files = [
        ("file", ("dark.png", photo(40))),
        ("files", ("bright.png", photo(200))),
        ("file", ("grey.png", photo(128))),
    ]
    response = await client.post("/v1/classify", files=files)
    results = response.json()["results"]
    assert [each["file"] for each in results] == ["dark.png", "bright.png", "grey.png"]
    for each, level in zip(results, (40, 200, 128), strict=True):
        alone = await result(client, content=photo(level))
        assert each["predictions"] == alone["predictions"]


async def test_a_file_name_may_be_in_any_language(client):
    assert (await result(client, files={"file": ("写真é.png", photo())}))["file"] == "写真é.png"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "JSON body; got "),
        ("[]", "JSON body; got list; expected an object"),
        ("{}", "neither image nor images"),
        ('{"image": "aGk=", "images": ["aGk="]}', "image and images; expected one of the two"),
        ('{"image": 7}', "image in the JSON body; got 7; expected base64 text"),
        ('{"images": []}', "expected base64 texts"),
        ('{"images": "aGk="}', "expected base64 texts"),
        ('{"images": ["aGk=", null]}', "expected base64 texts"),
        ('{"image": "not base64!"}', "base64 of an image; got not base64!"),
        ('{"image": ""}', "the image is empty"),
        ("[" * 5000, "depth of the JSON; got more than 64; expected at most 64 levels"),
    ],
)
async def test_a_wrong_json_body_is_explained(client, document, message):
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert message in await error(client, 400, content=document, headers=headers)


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
END = b"--b--\r\n"


def part(disposition: str, data: str) -> bytes:
    return f"--b\r\nContent-Disposition: form-data{disposition}\r\n\r\n{data}\r\n".encode()


TOP_K = part('; name="top_k"', "3")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"nonsense", "multipart body; got "),
        (part('; name="file"', "abc"), "without the closing boundary"),
        (part("", "abc") + END, "a part without a name"),
        (TOP_K + END, "the form holds no image; got top_k"),
        (
            part('; name="photo"; filename="a.png"', "abc") + END,
            "file field of the form; got photo; expected any of file, files",
        ),
        (TOP_K + TOP_K + END, "top_k in the form; got more than one value"),
        (END, "the form holds no image; got no fields"),
        (part('; name="file"', "") + END, "the image is empty"),
    ],
)
async def test_a_wrong_form_is_explained(client, body, message):
    assert message in await error(client, 400, content=body, headers=FORM)


async def test_a_form_without_boundary_is_explained(client):
    headers = {"Content-Type": "multipart/form-data"}
    assert "a Content-Type with a boundary" in await error(client, 400, content=b"abc", headers=headers)


async def test_a_form_of_endless_parts_is_refused(client):
    body = part('; name="file"', "x") * 100 + END
    assert "more than 73 parts" in await error(client, 400, content=body, headers=FORM)


async def test_too_many_images_are_refused_before_any_is_decoded():
    async with serving(max_files=2) as client:
        message = await error(client, 400, files=[("file", ("a", b"no image"))] * 3)
    assert message == "too many images in one request; got 3; expected at most 2"


async def test_one_bad_image_among_good_ones_fails_the_request(client):
    assert "no image we can read" in await error(client, 415, files=[("file", photo()), ("file", b"hello")])


async def test_an_empty_body_is_refused(client):
    assert await error(client, 400) == (
        "the request body is empty; got 0 bytes; expected an image: raw, in a form, or as base64 in JSON"
    )


async def test_a_large_body_is_refused_announced_or_not():
    async def chunks():
        for _ in range(50):
            yield b"x" * 100

    async with serving(max_body_bytes=1000) as client:
        assert "got 2000 bytes; expected at most 1000 bytes" in await error(client, 413, content=b"x" * 2000)
        assert "got more than 1000 bytes" in await error(client, 413, content=chunks())


@pytest.mark.parametrize("announced", ["-1", "abc", "1e3", "²"])
async def test_a_content_length_that_lies_is_refused(announced):
    wire = Wire({"type": "http.request", "body": b"x", "more_body": False})
    request = HttpRequest(
        {**scope(), "headers": [(b"content-length", announced.encode("latin-1"))]},
        wire.receive,
        request_id="1",
        arrival_s=0,
        body_memory=BodyMemory(10),
    )
    with pytest.raises(Exception, match="Content-Length; got"):
        await request.body()


async def test_a_client_that_leaves_in_its_body_is_cancelled():
    wire = Wire({"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"})
    request = HttpRequest(scope(), wire.receive, request_id="1", arrival_s=0, body_memory=BodyMemory(10))
    with pytest.raises(Cancelled):
        await request.body()


async def test_the_images_of_one_request_share_a_budget_of_pixels():
    async with serving(max_request_pixels=1000) as client:
        small = as_base64(photo(size=(20, 20)))
        assert (await client.post("/v1/classify", json={"images": [small] * 2})).status_code == 200
        message = await error(client, 413, json={"images": [small] * 3})
        assert message == "pixels of the request's images; got 1200; expected at most 1000"


async def test_a_content_type_is_no_longer_than_any_boundary_needs(client):
    for kind in ("multipart/form-data" + ";" * 30_000, 'multipart/form-data; boundary="' + ";" * 1000):
        text = await error(client, 400, content=b"x", headers={"Content-Type": kind})
        assert text.startswith("Content-Type; got multipart/form-data")
        assert text.endswith("expected at most 1000 characters")
