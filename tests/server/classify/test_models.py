"""What each model offers, and what a request would cost."""

import pytest

from server.backends.fake import FAMILY, NUM_CLASSES, TAPE_CAPACITY, fake_manifest
from server.classify.schemas import Quote
from tests.server.surface import photo, result


async def test_models_are_listed_and_described(client):
    listed = (await client.get("/v1/models")).json()
    (model,) = listed["models"]
    assert (listed["default"], model["name"], listed["broken"]) == (FAMILY, FAMILY, {})
    detail = (await client.get(f"/v1/models/{FAMILY}", params={"version": "1"})).json()
    assert {key: detail[key] for key in model} == model
    assert len(detail["labels"]) == NUM_CLASSES
    assert detail["flops"][0] == model["min_flops"]
    assert detail["flops"][-1] == model["full_flops"]


@pytest.mark.parametrize("path", ["", "/curve"])
async def test_an_unknown_model_has_no_page(client, path):
    response = await client.get(f"/v1/models/cat{path}")
    assert (response.status_code, response.json()["error"]) == (404, f"model; got cat; expected one of: {FAMILY}")


async def test_the_curve_is_the_manifests(client):
    curve = (await client.get(f"/v1/models/{FAMILY}/curve")).json()
    assert curve["points"] == [point.model_dump() for point in fake_manifest().quality.points]
    assert curve["num_samples"] == 1000


async def quote(client, **request):
    response = await client.post(f"/v1/models/{FAMILY}/quote", **request)
    assert response.status_code == 200, response.text
    return Quote.model_validate_json(response.content)


async def test_a_quote_bounds_the_receipt(client):
    for cap in (0, 1, 5, 8, 16):
        quoted = await quote(client, params={"max_tape": cap})
        receipt = (await result(client, params={"max_tape": cap}, content=photo(255)))["receipt"]
        assert (quoted.cap, quoted.budget_reason) == (receipt["cap"], receipt["budget_reason"])
        assert receipt["useful_flops"] <= quoted.max_useful_flops
        assert receipt["executed_flops"] <= quoted.max_executed_flops
        assert quoted.expected.accuracy_low <= quoted.expected.accuracy <= quoted.expected.accuracy_high


async def test_a_quote_reads_its_parameters_as_classify_does(client):
    in_query = await quote(client, params={"min_accuracy": 0.6})
    in_body = await quote(client, json={"min_accuracy": 0.6})
    in_header = await quote(client, headers={"X-Min-Accuracy": "0.6"})
    assert in_query == in_body == in_header
    assert in_query.cap == 4
    assert (await quote(client)).cap == TAPE_CAPACITY


async def test_a_quote_between_measured_caps_lies_between_their_points(client):
    assert (await quote(client, params={"max_tape": 6})).expected.accuracy == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"params": {"max_tape": -1}}, 400, "max_tape in the query; got -1"),
        ({"json": {"top_k": 3}}, 400, "unknown parameter in the JSON body; got top_k"),
        ({"json": []}, 400, "JSON body; got list"),
        ({"content": b"{"}, 400, "JSON body; got "),
        ({"params": {"max_flops": 1}}, 400, "max_flops; got 1"),
        ({"params": {"version": "7"}}, 404, "version of"),
    ],
)
async def test_a_wrong_quote_is_explained(client, request_, status, message):
    response = await client.post(f"/v1/models/{FAMILY}/quote", **request_)
    assert response.status_code == status
    assert message in response.json()["error"]
