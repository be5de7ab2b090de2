"""A real server answers real requests: caps, concurrency, broken files, large bodies, bytes that are no HTTP."""

import asyncio
import io
import socket
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from server.classify.schemas import Answer


def picture(seed: int = 0, size: tuple[int, int] = (320, 240), kind: str = "JPEG") -> bytes:
    """Draw shapes on a gradient: something for a model to look at."""
    generator = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, size[0], dtype=np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (size[1], 1))] * 3, axis=-1))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        left, top = generator.integers(0, size[0] - 40), generator.integers(0, size[1] - 40)
        color = tuple(int(level) for level in generator.integers(0, 256, 3))
        draw.ellipse((left, top, left + 40, top + 30), fill=color)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def classify(client, content, **params):
    response = client.post("/v1/classify", params=params, content=content)
    assert response.status_code == 200, response.text
    return Answer.model_validate_json(response.content).results[0]


def by_label(result):
    return {each.label: each.probability for each in result.predictions}


def test_the_tape_obeys_the_cap_and_flops_grow_with_it(client, model):
    capacity = model["tape_capacity"]
    receipts = [
        classify(client, picture(), model=model["name"], max_tape=cap).receipt
        for cap in sorted({0, 1, 2, 4, capacity // 2, capacity})
    ]
    for receipt in receipts:
        assert receipt.tape_length <= receipt.cap
        assert receipt.useful_flops <= receipt.executed_flops
    lengths = [receipt.tape_length for receipt in receipts]
    flops = [receipt.useful_flops for receipt in receipts]
    assert lengths == sorted(lengths)
    assert flops == sorted(flops)
    assert (lengths[0], flops[0]) == (0, model["min_flops"])
    assert flops[-1] > flops[0]


def test_every_way_to_send_an_image_gives_the_same_answer(client, model):
    content, query = picture(), {"model": model["name"], "max_tape": 4}
    raw = classify(client, content, **query)
    form = client.post("/v1/classify", params=query, files={"file": ("a.jpg", content)}).json()["results"][0]
    assert form["predictions"] == [each.model_dump() for each in raw.predictions]


def test_an_explanation_points_into_the_photo(client, model):
    explained = classify(client, picture(size=(300, 200)), model=model["name"], explain="true")
    explanation = explained.explanation
    assert len(explanation.tokens) == explained.receipt.tape_length
    for token in explanation.tokens:
        for read in token.reads:
            if explanation.bank == "input":
                box = read.upload_box
                assert 0 <= box.left < box.right <= 300.001
                assert 0 <= box.top < box.bottom <= 200.001


async def test_a_photo_among_64_others_gets_its_own_answer(server, model):
    seeds = [0, 1, 2, 3] * 16
    capacity = model["tape_capacity"]
    caps = [(0, 2, capacity)[index % 3] for index in range(64)]
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def ask(seed, cap):
            params = {"model": model["name"], "max_tape": cap, "top_k": 10**6}
            response = await client.post("/v1/classify", params=params, content=picture(seed))
            assert response.status_code == 200, response.text
            (result,) = response.json()["results"]
            by_label = sorted((each["label"], each["probability"]) for each in result["predictions"])
            return result["receipt"]["tape_length"], [probability for _, probability in by_label]

        alone = {pair: await ask(*pair) for pair in set(zip(seeds, caps, strict=True))}
        together = await asyncio.gather(*(ask(seed, cap) for seed, cap in zip(seeds, caps, strict=True)))
    for (length, probabilities), pair in zip(together, zip(seeds, caps, strict=True), strict=True):
        assert length == alone[pair][0]
        np.testing.assert_allclose(probabilities, alone[pair][1], atol=1e-4)


def png(width: int, height: int) -> bytes:
    """Return the header of a PNG of any size, and too little data."""

    def chunk(name, payload):
        return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def half(kind: str) -> bytes:
    content = picture(kind=kind)
    return content[: len(content) // 2]


BROKEN = {
    "no bytes": (b"", 400),
    "one byte": (b"\0", 415),
    "text": (b"this is no photo", 415),
    "html": (b"<!doctype html><p>404</p>", 415),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 415),
    "tiff": (b"II*\0\x08\0\0\0\0\0\0\0", 415),
    "half a jpeg": (half("JPEG"), 415),
    "half a png": (half("PNG"), 415),
    "half a webp": (half("WEBP"), 415),
    "half a gif": (half("GIF"), 415),
    "half a bmp": (half("BMP"), 415),
    "a png signature": (b"\x89PNG\r\n\x1a\n", 415),
    "a bomb": (png(60_000, 60_000), 413),
    "no pixels": (png(0, 0), 415),
    "a png with too few rows": (png(100, 100), 415),
    "a jpeg of zeros": (b"\xff\xd8\xff\xe0" + b"\0" * 1000, 415),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_a_clear_error(client, server, name):
    content, status = BROKEN[name]
    for request in ({"content": content}, {"files": {"file": (name, content)}}):
        response = client.post("/v1/classify", **request)
        assert response.status_code == status, response.text
        assert list(response.json()) == ["error"]
        assert "expected" in response.json()["error"]
    assert "Traceback" not in server.log
    assert "Warning" not in server.log


def test_a_body_over_the_limit_is_refused_while_it_comes(client):
    def chunks():
        for _ in range(300):
            yield b"x" * 100_000

    for content in (b"x" * 30_000_000, chunks()):
        response = client.post("/v1/classify", content=content)
        assert response.status_code == 413
        assert "expected at most 20971520 bytes" in response.json()["error"]
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_bytes_that_are_no_http_get_json_too(server, sent):
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(sent)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, body = received.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/json" in head
    assert body.startswith(b'{"error": "Invalid HTTP request')


def test_a_client_that_leaves_disturbs_nobody(server, client, model):
    url = httpx.URL(server.url)
    content = picture()
    head = (
        f"POST /v1/classify?model={model['name']} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    before = classify(client, content, model=model["name"])
    for sent in (head.encode(), head.encode() + content[:500], head.encode() + content):
        with socket.create_connection((url.host, url.port), timeout=10) as connection:
            connection.sendall(sent)
    # A batch that still holds a departed neighbour adds up in another order.
    assert by_label(classify(client, content, model=model["name"])) == pytest.approx(by_label(before), abs=1e-4)
    assert "Traceback" not in server.log
