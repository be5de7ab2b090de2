"""Inference over HTTP in all its forms: JSON, binary, mixed, raw, compressed."""

import gzip
import zlib

import numpy as np
import orjson
import pytest

from server.backends.fake import BUCKETS, FAMILY, NUM_CLASSES, fake_manifest
from tests.server.oip.calls import (
    HEADER_LENGTH,
    INFER,
    PIXELS,
    SHAPE,
    binary,
    call,
    image,
    packed,
    pixels,
    unpacked,
    values,
)
from tests.server.surface import photo, serving

FLOPS = fake_manifest().flops
LOGITS = np.full((1, NUM_CLASSES), 127 / 255 * 9, np.float32)
OUTPUTS = ["logits", "probabilities", "tape_length", "tape_length_wanted", "flops"]


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


async def post(client, document, *parts, headers=None, path=INFER):
    content, length = packed(document, *parts) if parts else (orjson.dumps(document), {})
    response = await client.post(path, content=content, headers={**length, **(headers or {})})
    assert response.status_code == 200, response.text
    return response


# --- Forms -------------------------------------------------------------------------------------


async def test_json(client):
    response = await post(client, call(id="7"))
    document = response.json()
    assert response.headers["Content-Type"] == "application/json"
    assert HEADER_LENGTH not in response.headers
    assert (document["model_name"], document["model_version"], document["id"]) == (FAMILY, "1", "7")
    assert [output["name"] for output in document["outputs"]] == OUTPUTS
    assert [output["shape"] for output in document["outputs"]] == [[1, 10], [1, 10], [1, 1], [1, 1], [1, 1]]
    assert [output["datatype"] for output in document["outputs"]] == ["FP32", "FP32", "INT32", "INT32", "INT64"]
    found = values(document)
    np.testing.assert_allclose(found["logits"], LOGITS[0], rtol=1e-6)
    assert sum(found["probabilities"]) == pytest.approx(1)
    assert (found["tape_length"], found["tape_length_wanted"], found["flops"]) == ([8], [8], [FLOPS.useful(8, 16)])
    assert all("parameters" not in output for output in document["outputs"])


async def test_nested_data_means_the_same_as_flat(client):
    flat = await post(client, call(image(pixels(batch=2))))
    nested = await post(client, call(image(pixels(batch=2), data=pixels(batch=2).tolist())))
    assert values(flat.json()) == values(nested.json())


async def test_binary(client):
    document = call(binary("image", "UINT8", SHAPE, PIXELS), parameters={"binary_data_output": True})
    response = await post(client, document, pixels().tobytes())
    assert response.headers["Content-Type"] == "application/octet-stream"
    reply, outputs = unpacked(response)
    assert list(outputs) == OUTPUTS
    np.testing.assert_allclose(np.frombuffer(outputs["logits"], np.float32), LOGITS[0], rtol=1e-6)
    assert outputs["flops"] == FLOPS.useful(8, 16).to_bytes(8, "little")
    assert all(list(output["parameters"]) == ["binary_data_size"] for output in reply["outputs"])
    assert "id" not in reply


async def test_mixed(client):
    """A binary input beside a JSON one, and outputs each in its own form."""
    inputs = [{"name": "max_tape", "datatype": "INT32", "shape": [1, 1], "data": [[3]]}]
    inputs += [binary("image", "UINT8", SHAPE, PIXELS)]
    wanted = [{"name": "flops"}, {"name": "logits", "parameters": {"binary_data": True}}]
    reply, outputs = unpacked(await post(client, call(*inputs, outputs=wanted), pixels().tobytes()))
    assert [output["name"] for output in reply["outputs"]] == ["flops", "logits"]
    assert values(reply) == {"flops": [FLOPS.useful(3, 3)]}
    assert len(outputs["logits"]) == 4 * NUM_CLASSES


async def test_an_output_may_differ_from_the_default_form(client):
    wanted = [{"name": "logits"}, {"name": "flops", "parameters": {"binary_data": False}}]
    document = call(outputs=wanted, parameters={"binary_data_output": True})
    reply, outputs = unpacked(await post(client, document))
    assert list(outputs) == ["logits"]
    assert list(values(reply)) == ["flops"]


async def test_raw(client):
    response = await client.post(
        INFER, content=pixels().tobytes(), headers={HEADER_LENGTH: "0", "X-Max-Tape": "4", "Accept-Encoding": ""}
    )
    reply, outputs = unpacked(response)
    assert list(outputs) == OUTPUTS
    assert np.frombuffer(outputs["tape_length"], np.int32) == [4]
    assert reply["parameters"]["cap"] == 4


async def test_a_version_may_be_named(client):
    response = await post(client, call(), path=f"/v2/models/{FAMILY}/versions/1/infer")
    assert response.json()["model_version"] == "1"


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_both_ways(client, coding, compress):
    content, headers = packed(call(binary("image", "UINT8", SHAPE, PIXELS), id="z"), pixels().tobytes())
    headers |= {"Content-Encoding": coding, "Accept-Encoding": coding}
    response = await client.post(INFER, content=compress(content), headers=headers)
    assert response.headers["Content-Encoding"] == coding
    assert response.json()["id"] == "z"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("identity", None),
        ("br", None),
        ("gzip;q=0, deflate;q=0", None),
        ("gzip;q=often", None),
        ("deflate;q=0.9, gzip;q=0.1", "deflate"),
        ("GZIP, deflate", "gzip"),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
    ],
)
async def test_replies_are_compressed_only_as_accepted(client, accepted, coding):
    response = await post(client, call(), headers={"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding") == coding


# --- Inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
async def test_encoded_images(client, kind):
    files = [photo(level, (40, 30), kind) for level in (100, 200)]
    raw = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    response = await post(client, call(binary("encoded", "BYTES", [2, 1], len(raw))), raw)
    assert values(response.json())["tape_length_wanted"] == [6, 12]
    assert response.json()["outputs"][0]["shape"] == [2, NUM_CLASSES]


async def test_a_cap_for_each_sample(client):
    caps = {"name": "max_tape", "datatype": "INT32", "shape": [3, 1], "data": [0, 2, 99]}
    found = values((await post(client, call(image(pixels(batch=3)), caps))).json())
    assert found["tape_length"] == [0, 2, 8]
    assert found["tape_length_wanted"] == [0, 8, 8], "0 where nothing was read"
    assert found["flops"] == [FLOPS.useful(0, 0), FLOPS.useful(2, 2), FLOPS.useful(8, 16)]


async def test_of_tensor_and_parameter_the_smaller_cap_wins(client):
    caps = {"name": "max_tape", "datatype": "INT32", "shape": [2, 1], "data": [2, 6]}
    document = call(image(pixels(batch=2)), caps, parameters={"max_tape": 4})
    assert values((await post(client, document)).json())["tape_length"] == [2, 4]


@pytest.mark.parametrize(
    ("parameters", "headers", "cap"),
    [
        ({"max_tape": 5}, {}, 5),
        ({"max_tape": "5"}, {}, 5),
        ({}, {"X-Max-Tape": "5"}, 5),
        ({"max_tape": 5}, {"X-Max-Tape": "3"}, 5),
        ({"max_flops": FLOPS.useful(4, 4)}, {}, 4),
        ({}, {"X-Max-Flops": str(FLOPS.useful(4, 4))}, 4),
        ({"min_accuracy": 0.55}, {}, 2),
        ({"deadline_ms": 10_000, "timeout": 5_000_000, "priority": 1}, {"X-Deadline-Ms": "9000"}, 16),
        ({"priority": 0, "timeout": 0}, {}, 16),
        ({}, {"X-Priority": "high"}, 16),
        ({"content_type": "np", "headers": "x"}, {}, 16),
    ],
)
async def test_parameters_and_headers(client, parameters, headers, cap):
    response = await post(client, call(parameters=parameters), headers=headers)
    assert response.json()["parameters"]["cap"] == cap


# --- Outputs -----------------------------------------------------------------------------------


async def test_classification(client):
    data = pixels(batch=2)
    data.reshape(2, -1)[0, :NUM_CLASSES] = range(NUM_CLASSES)
    wanted = [{"name": "logits", "parameters": {"classification": 3}}, {"name": "probabilities"}]
    document = (await post(client, call(image(data), outputs=wanted))).json()
    top = document["outputs"][0]
    assert (top["datatype"], top["shape"]) == ("BYTES", [2, 3])
    assert [text.split(":")[1:] for text in top["data"][:3]] == [["9", "class_9"], ["8", "class_8"], ["7", "class_7"]]
    scores = np.reshape(values(document)["probabilities"], (2, -1))
    assert scores[0].argmax() == 9
    assert [text.split(":")[1] for text in top["data"][3:]] == ["0", "1", "2"], "equal scores keep their order"


async def test_no_more_classes_than_there_are(client):
    wanted = [{"name": "logits", "parameters": {"classification": 99, "binary_data": True}}]
    _, outputs = unpacked(await post(client, call(outputs=wanted)))
    assert outputs["logits"].count(b"class_") == NUM_CLASSES


async def test_the_receipt_of_one_sample(client):
    parameters = (await post(client, call(parameters={"max_tape": 5}))).json()["parameters"]
    assert {name: parameters.pop(name) for name in ("queue_ms", "read_ms", "trunk_ms", "total_ms")}.keys()
    assert parameters == {
        "cap": 5,
        "budget_reason": "requested",
        "tape_length": 5,
        "tape_length_wanted": 8,
        "bucket": 8,
        "useful_flops": FLOPS.useful(5, 5),
        "executed_flops": FLOPS.read_executed(is_reading=True) + FLOPS.trunk[8],
    }


async def test_a_receipt_without_reading_names_no_length_wanted(client):
    parameters = (await post(client, call(parameters={"max_tape": 0}))).json()["parameters"]
    assert "tape_length_wanted" not in parameters
    assert parameters["bucket"] == BUCKETS[0]


async def test_the_receipt_of_several_samples_adds_up(client):
    document = (await post(client, call(image(pixels(batch=4))))).json()
    parameters = document["parameters"]
    assert parameters["useful_flops"] == sum(values(document)["flops"])
    assert "cap" not in parameters
    assert parameters["total_ms"] >= parameters["queue_ms"]
