"""Parameters from three places; every wrong one is named in the refusal."""

import itertools
import string
import time

import httpx
import pytest

from server.backends.fake import BUCKETS, FAMILY, TAPE_CAPACITY, fake_manifest
from server.errors import BadRequest
from server.http.body_memory import BodyMemory
from server.http.exchange import HttpRequest
from server.params import PARAMETERS, read_query
from tests.server.surface import as_base64, error, make_app, photo, result, scope

WRONG = {
    "model": [""],
    "version": [""],
    "max_tape": ["-1", "abc", "1.5", "", "0x8", "1e2", "٣", "nan"],
    "max_flops": ["0", "-5", "abc", "nan", "inf", ""],
    "deadline_ms": ["0", "1e-9", "-1", "soon", "inf"],
    "min_accuracy": ["-0.1", "1.1", "good", "nan"],
    "top_k": ["0", "-1", "abc", "2.5"],
    "explain": ["maybe", "2", ""],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
async def test_a_wrong_value_is_refused_wherever_it_stands(client, name, value):
    parameter = next(each for each in PARAMETERS if each.name == name)
    ending = f"expected {parameter.expected}"
    image = {"image": as_base64(photo())}
    in_query = await error(client, 400, params={name: value}, content=photo())
    in_form = await error(client, 400, data={name: value}, files={"file": photo()})
    in_json = await error(client, 400, json={**image, name: value})
    assert in_query.startswith(f"{name} in the query; got {value or 'an empty value'}; {ending}")
    assert in_form.startswith(f"{name} in the form; got ")
    assert in_json.startswith(f"{name} in the JSON body; got ")
    assert in_form.endswith(ending)
    assert in_json.endswith(ending)
    if value.isascii():
        in_header = await error(client, 400, headers={parameter.header: value}, content=photo())
        assert in_header.startswith(f"{name} in the header {parameter.header}; got ")


@pytest.mark.parametrize("value", [True, None, [8], {"a": 1}, "eight", -1, 1.5])
async def test_a_wrong_json_value_is_refused(client, value):
    body = {"image": as_base64(photo()), "max_tape": value}
    assert "max_tape in the JSON body" in await error(client, 400, json=body)


async def test_an_unknown_parameter_names_the_known_ones(client):
    known = "model, version, max_tape, max_flops, deadline_ms, priority, min_accuracy, top_k, explain"
    for place, request in (
        ("query", {"params": {"max_tapes": 8}, "content": photo()}),
        ("form", {"data": {"max_tapes": "8"}, "files": {"file": photo()}}),
        ("JSON body", {"json": {"max_tapes": 8, "image": as_base64(photo())}}),
    ):
        assert await error(client, 400, **request) == (
            f"unknown parameter in the {place}; got max_tapes; expected any of {known}"
        )


async def test_a_parameter_twice_in_the_query_is_refused(client):
    message = await error(client, 400, params=[("max_tape", 1), ("max_tape", 2)], content=photo())
    assert message == "query; got max_tape more than once; expected each parameter once"


async def test_the_query_wins_over_the_body_and_the_body_over_the_header(client):
    everywhere = {"params": {"max_tape": 1}, "headers": {"X-Max-Tape": "3"}}
    body = {"data": {"max_tape": "2"}, "files": {"file": photo(200)}}
    assert (await result(client, **everywhere, **body))["receipt"]["cap"] == 1
    del everywhere["params"]
    assert (await result(client, **everywhere, **body))["receipt"]["cap"] == 2
    assert (await result(client, **everywhere, content=photo(200)))["receipt"]["cap"] == 3
    assert (await result(client, content=photo(200)))["receipt"]["cap"] == TAPE_CAPACITY


@pytest.mark.parametrize("cap", [0, 1, 3, 8, 16, 17, 10**30])
async def test_the_tape_is_never_longer_than_the_cap(client, cap):
    receipt = (await result(client, params={"max_tape": cap}, content=photo(200)))["receipt"]
    assert receipt["cap"] == min(cap, TAPE_CAPACITY)
    assert receipt["tape_length"] == min(cap, 12)
    assert receipt["bucket"] == next(bucket for bucket in BUCKETS if bucket >= receipt["tape_length"])
    assert receipt["budget_reason"] == ("requested" if cap < TAPE_CAPACITY else "model")
    assert receipt["tape_length_wanted"] == (12 if cap else None)


async def test_flops_grow_with_the_tape(client):
    receipts = [(await result(client, params={"max_tape": cap}, content=photo(250)))["receipt"] for cap in range(16)]
    useful = [receipt["useful_flops"] for receipt in receipts]
    assert useful == sorted(set(useful))
    assert all(receipt["useful_flops"] <= receipt["executed_flops"] for receipt in receipts)
    assert receipts[-1]["useful_flops"] < receipts[0]["full_flops"]


async def test_the_other_budgets_set_the_cap(client):
    flops = fake_manifest().flops
    params = {"max_flops": flops.useful(5, 5)}
    assert (await result(client, params=params, content=photo()))["receipt"]["cap"] == 5
    assert (await result(client, params={"min_accuracy": 0.7}, content=photo()))["receipt"]["cap"] == 8
    assert "max_flops; got 5" in await error(client, 400, params={"max_flops": 5}, content=photo())
    assert "min_accuracy; got 0.99" in await error(client, 400, params={"min_accuracy": 0.99}, content=photo())


async def test_a_deadline_that_has_passed_is_a_timeout(client):
    assert "deadline" in await error(client, 504, params={"deadline_ms": 0.001}, content=photo())


async def test_an_unknown_model_or_version_names_those_there_are(client):
    assert await error(client, 404, params={"model": "cat"}, content=photo()) == (
        f"model; got cat; expected one of: {FAMILY}"
    )
    message = await error(client, 404, params={"version": "9"}, content=photo())
    assert message == f"version of {FAMILY}; got 9; expected one of: 1"


async def test_nothing_is_decoded_for_a_call_that_is_refused_before(client, monkeypatch):
    def never(*_, **__):
        raise AssertionError("This is a bug.")

    monkeypatch.setattr("server.images.decode_pool.decode", never)
    await error(client, 404, params={"model": "cat"}, content=photo())
    await error(client, 400, params={"max_tape": "-1"}, content=photo())


async def test_a_server_that_has_not_started_refuses():
    app = make_app()
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/v1/classify", content=photo())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


def test_a_query_of_many_names_costs_as_much_as_it_is_long():
    two = ["".join(pair) for pair in itertools.product(string.ascii_letters, repeat=2)]
    query = "&".join(f"{name}=1" for name in [*string.ascii_letters, *two, *two]).encode()
    request = HttpRequest(
        {**scope(), "query_string": query}, None, request_id="1", arrival_s=0, body_memory=BodyMemory(1)
    )
    started_s = time.thread_time()
    with pytest.raises(BadRequest, match="query; got aa more than once"):
        read_query(request)
    assert time.thread_time() - started_s < 0.05
