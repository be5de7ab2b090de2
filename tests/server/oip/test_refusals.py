"""Bad input over HTTP: 400 (413, 404, ...) with a message that names the input, what came and what was expected."""

import gzip
import zlib

import orjson
import pytest

from server.backends.fake import FAMILY, MAX_BATCH_SIZE
from server.dataplane.budget_parameters import read_request_limits
from server.errors import DeadlineExceeded
from server.params import BY_NAME
from server.records import Priority
from tests.server.oip.calls import HEADER_LENGTH, INFER, PIXELS, SHAPE, binary, call, image, packed, pixels
from tests.server.surface import make_app, photo, serving

IMAGE = binary("image", "UINT8", SHAPE, PIXELS)
CAP = {"name": "max_tape", "datatype": "INT32", "shape": [1, 1], "data": [4]}
BODY = pixels().tobytes()


@pytest.fixture
async def client():
    async with serving(max_body_bytes=20_000) as client:
        yield client


async def refused(client, status=400, path=INFER, **request):
    """Post in vain; check that the server is as good as before; give the message."""
    response = await client.post(path, **request)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert list(response.json()) == ["error"]
    assert (await client.post(INFER, content=orjson.dumps(call()))).status_code == 200
    return response.json()["error"]


WRONG_DOCUMENTS = {
    # names
    "input; got photo; expected any of image, encoded, max_tape": call(image(name="photo")),
    "input image; got it more than once; expected each input once": call(image(), image()),
    "inputs; got neither image nor encoded; expected one of the two": call(CAP),
    "inputs; got image and encoded; expected one of the two": call(
        image(), {"name": "encoded", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}
    ),
    "output; got score; expected any of logits, prob": call(outputs=[{"name": "score"}]),
    "output flops; got it more than once": call(outputs=[{"name": "flops"}, {"name": "flops"}]),
    # datatypes and shapes
    "datatype of input image; got FP32; expected UINT8": call(image(datatype="FP32")),
    "datatype of input image; got uint8; expected UINT8": call(image(datatype="uint8")),
    "shape of input image; got [1, 8, 8]; expected UINT8 [batch, 8, 8, 3]": call(image(shape=[1, 8, 8])),
    "shape of input image; got [1, 3, 8, 8]; expected": call(image(shape=[1, 3, 8, 8])),
    "shape of input image; got [1, -8, -8, 3]": call(image(shape=[1, -8, -8, 3])),
    "shape of input image; got [1.0, 8, 8, 3]; expected a list": call(image(shape=[1.0, 8, 8, 3])),
    "shape of input image; got [True, 8, 8, 3]": call(image(shape=[True, 8, 8, 3])),
    "shape of input image; got [1, 1, 1, 1, 1, 1, 1, 1, 1]; expected a list of at most 8": call(image(shape=[1] * 9)),
    "shape of input image; got none": call(image(shape=None)),
    "batch of input image; got 0; expected 1 to 16 samples": call(image(shape=[0, 8, 8, 3], data=[])),
    "batch of input image; got 17; expected 1 to 16 samples": call(image(pixels(batch=MAX_BATCH_SIZE + 1))),
    "batch of input image; got 1099511627776; expected": call(image(shape=[2**40, 8, 8, 3])),
    "batch of input image; got 4611686018427387905; expected": call(image(shape=[2**62 + 1, 8, 8, 3])),
    "shape of input max_tape; got [2, 1]; expected [1, 1], one cap for each sample of image": call(
        image(), {**CAP, "shape": [2, 1], "data": [1, 2]}
    ),
    # values
    "input image; got 191 values; expected 192": call(image(data=[0] * 191)),
    "input image; got 256; expected integers from 0 to 255": call(image(data=[256] * PIXELS)),
    "input image; got -1; expected integers from 0 to 255": call(image(data=[-1] * PIXELS)),
    "input image; got 0.5; expected integers": call(image(data=[0.5] * PIXELS)),
    "input image; got 1e+300; expected integers": call(image(data=[1e300] * PIXELS)),
    "data of input image; got rows of different lengths": call(image(data=[[0] * 191, [0]])),
    "data of input image; got text; expected a list": call(image(data="text")),
    "data of input image; got none; expected a list": call(image(data=None)),
    "max_tape; got -1; expected an integer of at least 0": call(image(), {**CAP, "data": [-1]}),
    "input max_tape; got 2147483648; expected integers from": call(image(), {**CAP, "data": [2**31]}),
    # parameters
    "max_tape in the request parameters; got -1; expected": call(parameters={"max_tape": -1}),
    "max_tape in the request parameters; got 1.5; expected": call(parameters={"max_tape": 1.5}),
    "max_tape in the request parameters; got null; expected": call(parameters={"max_tape": None}),
    "max_flops in the request parameters; got 0; expected": call(parameters={"max_flops": 0}),
    "deadline_ms in the request parameters; got soon; expected": call(parameters={"deadline_ms": "soon"}),
    "min_accuracy in the request parameters; got 2; expected": call(parameters={"min_accuracy": 2}),
    "min_accuracy; got 0.99; expected at most 0.9": call(parameters={"min_accuracy": 0.99}),
    "priority in the request parameters; got high; expected an integer": call(parameters={"priority": "high"}),
    "timeout in the request parameters; got -5; expected a whole number": call(parameters={"timeout": -5}),
    "unknown request parameter; got max_tpae; expected any of max_tape": call(parameters={"max_tpae": 4}),
    "unknown request parameter; got sequence_id; expected": call(parameters={"sequence_id": 1}),
    "parameter binary_data_output; got 1; expected true or false": call(parameters={"binary_data_output": 1}),
    "parameters; got [1]; expected an object": call(parameters=[1]),
    "classification of output logits; got -1; expected": call(
        outputs=[{"name": "logits", "parameters": {"classification": -1}}]
    ),
    "classification of output flops; got 2; expected an output of classes": call(
        outputs=[{"name": "flops", "parameters": {"classification": 2}}]
    ),
    "binary_data of output logits; got yes; expected true or false": call(
        outputs=[{"name": "logits", "parameters": {"binary_data": "yes"}}]
    ),
    "parameter of input image; got shared_memory_region; expected tensors in the body": call(
        image(parameters={"shared_memory_region": "r"})
    ),
    "parameter of output logits; got shared_memory_region": call(
        outputs=[{"name": "logits", "parameters": {"shared_memory_region": "r"}}]
    ),
    # the document
    "id; got 7; expected a string": call(id=7),
    "JSON of the request; got no inputs; expected an object": {},
    "inputs; got {}; expected a list of objects": {"inputs": {}},
    "item of inputs; got image; expected an object": {"inputs": ["image"]},
    "name of inputs; got none; expected a string": {"inputs": [{"datatype": "UINT8"}]},
    "datatype of input image; got 3; expected a string": call(image(datatype=3)),
    "outputs; got logits; expected a list of objects": call(outputs="logits"),
}


@pytest.mark.parametrize(("message", "document"), WRONG_DOCUMENTS.items(), ids=list(WRONG_DOCUMENTS))
async def test_a_wrong_document_is_told_what_is_wrong(client, message, document):
    assert (await refused(client, content=orjson.dumps(document))).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "JSON of the request; got "),
        (b"{", "JSON of the request; got "),
        (b"[]", "JSON of the request; got list; expected an object"),
        (b"\xff\xfe", "JSON of the request; got "),
        (b'{"inputs": [NaN]}', "JSON of the request; got "),
        (b"[" * 5000, "depth of the JSON; got more than 64; expected "),
        (BODY, "JSON of the request; got "),
    ],
)
async def test_what_is_no_json(client, content, message):
    assert (await refused(client, content=content)).startswith(message)


LYING_SIZES = {
    "binary_data_size of input image; got 193; expected a number of bytes from 0 to 192": (193, BODY),
    "binary_data_size of input image; got 192; expected a number of bytes from 0 to 191": (PIXELS, BODY[:-1]),
    "binary_data_size of input image; got -1": (-1, BODY),
    "binary_data_size of input image; got True": (True, BODY),
    "binary_data_size of input image; got 192.0": (192.0, BODY),
    "input image; got 191 bytes; expected 192 bytes for UINT8 [1, 8, 8, 3]": (191, BODY[:-1]),
    "input image; got 0 bytes; expected 192 bytes": (0, b""),
    "body; got 1 bytes that belong to no input; expected the sum of binary_data_size": (PIXELS, BODY + b"!"),
}


@pytest.mark.parametrize(("message", "case"), LYING_SIZES.items(), ids=list(LYING_SIZES))
async def test_sizes_that_lie(client, message, case):
    size, data = case
    content, headers = packed(call(binary("image", "UINT8", SHAPE, size)), data)
    assert (await refused(client, content=content, headers=headers)).startswith(message)


async def test_data_in_both_forms(client):
    content, headers = packed(call({**IMAGE, "data": [0]}), BODY)
    message = await refused(client, content=content, headers=headers)
    assert message == "input image; got data and binary_data_size; expected one of the two"


@pytest.mark.parametrize("length", ["-1", "abc", "", "1e2", "0x10", "99999", "9" * 30, "٣", "1.0", "+1"])
async def test_a_header_length_that_is_none(client, length):
    content, _ = packed(call(IMAGE), BODY)
    message = await refused(client, content=content, headers={HEADER_LENGTH: length.encode()})
    assert message.startswith("Inference-Header-Content-Length; got ")
    assert message.endswith(f"expected a number of bytes from 0 to {len(content)}")


@pytest.mark.parametrize("off_by", [-1, 1])
async def test_a_header_length_that_cuts_the_document(client, off_by):
    content, headers = packed(call(IMAGE), BODY)
    headers[HEADER_LENGTH] = str(int(headers[HEADER_LENGTH]) + off_by)
    assert await refused(client, content=content, headers=headers)


async def test_a_raw_body_of_the_wrong_size(client):
    message = await refused(client, content=BODY[:-1], headers={HEADER_LENGTH: "0"})
    assert message == "input image; got 191 bytes; expected 192 bytes for UINT8 [1, 8, 8, 3]"


# --- Bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "content", "message"),
    [
        ("br", b"x", "Content-Encoding; got br; expected gzip, deflate or identity"),
        ("gzip, gzip", b"x", "Content-Encoding; got gzip, gzip; expected"),
        ("gzip", b"not gzip", "the gzip body is broken; got "),
        ("gzip", gzip.compress(BODY)[:-9], "the gzip body is broken; got its end too early"),
        ("gzip", gzip.compress(b"{}") + b"more", "the gzip body is broken; got 4 bytes after its end"),
        ("deflate", gzip.compress(b"{}"), "the deflate body is broken; got "),
        ("deflate", b"", "the deflate body is broken; got its end too early"),
    ],
)
async def test_broken_compression(client, coding, content, message):
    assert (await refused(client, content=content, headers={"Content-Encoding": coding})).startswith(message)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_bomb_is_never_inflated(client, coding, compress):
    bomb = compress(bytes(10_000_000))
    assert len(bomb) < 20_000
    message = await refused(client, 413, content=bomb, headers={"Content-Encoding": coding})
    assert message.startswith("the request body is too large; got more than 20000 bytes when decompressed")


async def test_a_body_that_is_too_large(client):
    message = await refused(client, 413, content=bytes(20_001))
    assert message.startswith("the request body is too large; got 20001 bytes")


async def test_a_large_document_is_judged_like_a_small_one():
    """It is refused in a thread, so the event loop goes on."""
    async with serving() as client:
        message = await refused(client, content=orjson.dumps(call(image(data=[0] * 200_000))))
    assert message == "input image; got 200000 values; expected 192 for shape [1, 8, 8, 3]"


def test_a_deadline_that_the_transport_has_used_up():
    with pytest.raises(DeadlineExceeded, match="got 0 s left"):
        read_request_limits({}, {}, 0.0)


@pytest.mark.parametrize(
    ("parameters", "defaults", "expected"),
    [
        ({}, {}, Priority.NORMAL),
        ({"priority": 1}, {}, Priority.HIGH),
        ({}, {"priority": Priority.LOW}, Priority.LOW),
        ({"priority": 1}, {"priority": Priority.LOW}, Priority.HIGH),
        ({"priority": 0}, {"priority": Priority.LOW}, Priority.NORMAL),
        ({"priority": 9}, {}, Priority.NORMAL),
    ],
)
def test_a_priority_by_parameter_or_header(parameters, defaults, expected):
    assert read_request_limits(parameters, defaults, None).priority is expected


async def test_broken_images(client):
    for data, status, start in [(b"hello", 415, "the bytes are no image"), (b"", 400, "the image is empty")]:
        raw = len(data).to_bytes(4, "little") + data
        content, headers = packed(call(binary("encoded", "BYTES", [1, 1], len(raw))), raw)
        assert (await refused(client, status, content=content, headers=headers)).startswith(start)


@pytest.mark.parametrize("cut", [1, 3, 5, 70])
async def test_truncated_strings(client, cut):
    data = photo()
    raw = (len(data).to_bytes(4, "little") + data)[:-cut]
    content, headers = packed(call(binary("encoded", "BYTES", [1, 1], len(raw))), raw)
    message = await refused(client, content=content, headers=headers)
    assert message.startswith("input encoded; got ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_tape", "many", "an integer, 0 or more"),
        ("priority", "1", "high, normal or low"),
    ],
)
async def test_headers_are_judged_too(client, name, value, expected):
    header = BY_NAME[name].header
    message = await refused(client, content=orjson.dumps(call()), headers={header: value})
    assert message == f"{name} in the header {header}; got {value}; expected {expected}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v2/models/cat/infer", "model; got cat; expected one of: adatape_fake"),
        (f"/v2/models/{FAMILY}/versions/9/infer", "version of adatape_fake; got 9; expected one of: 1"),
        (f"/v2/models/{FAMILY}/versions/one/infer", "version of adatape_fake; got one; expected one of: 1"),
    ],
)
async def test_unknown_models_and_versions(client, path, message):
    assert await refused(client, 404, path=path, content=orjson.dumps(call())) == message


async def test_an_error_can_carry_whatever_came(client):
    document = b'{"inputs": [{"name": "\xc3\xa9\\u0000\\n", "datatype": "UINT8", "shape": [1]}]}'
    assert "\u00e9\x00\n" in await refused(client, content=document)


async def test_refusals_are_counted_once_each():
    app = make_app()
    async with serving(app) as client:
        await client.post(INFER, content=b"{")
        await client.post("/v2/models/cat/infer", content=orjson.dumps(call()))
        await client.post(INFER, content=orjson.dumps(call(parameters={"min_accuracy": 0.99})))
        page = (await client.get("/metrics")).text
    assert 'adatape_requests_total{model="none",outcome="bad_request",protocol="oip"} 1.0' in page
    assert 'adatape_requests_total{model="none",outcome="not_found",protocol="oip"} 1.0' in page
    assert f'adatape_requests_total{{model="{FAMILY}",outcome="bad_request",protocol="oip"}} 1.0' in page
