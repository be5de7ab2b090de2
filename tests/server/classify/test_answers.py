"""Predictions, receipts and explanations."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from server.backends.fake import FAMILY, NUM_CLASSES, SIDE_PX, fake_manifest
from server.classify.answers import patch_box, to_answer
from server.classify.schemas import Answer
from server.dataplane.outputs import softmax
from server.images import Placement
from server.records import BudgetReason, InferAnswer, Receipt, Sample
from tests.server.surface import make_app, photo, result, serving


async def test_an_answer_has_the_documented_shape(client):
    for request in (
        {"content": photo()},
        {"content": photo(), "params": {"max_tape": 0, "explain": "true"}},
        {"files": [("file", photo()), ("file", photo(9))], "params": {"explain": "true"}},
    ):
        response = await client.post("/v1/classify", **request)
        answer = Answer.model_validate_json(response.content, strict=False)
        assert answer.id == response.headers["X-Request-Id"]
        assert (answer.model, answer.version) == (FAMILY, "1")


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (3, 3), (10, 10), (10**9, 10), (None, 5)])
async def test_top_k_classes_most_probable_first(client, asked, given):
    params = {} if asked is None else {"top_k": asked}
    predictions = (await result(client, params=params, content=photo()))["predictions"]
    probabilities = [each["probability"] for each in predictions]
    assert len(predictions) == given
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(each["label"] == f"class_{each['index']}" for each in predictions)
    if given == NUM_CLASSES:
        assert math.isclose(sum(probabilities), 1)


@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_softmax_is_safe_for_any_logits(logits_C):
    probabilities_C = softmax(logits_C)
    assert np.isfinite(probabilities_C).all()
    assert math.isclose(probabilities_C.sum(), 1)
    assert probabilities_C[logits_C.argmax()] == probabilities_C.max()


async def test_an_explanation_says_what_each_tape_token_read(client):
    size = (80, 40)
    params = {"explain": "true", "max_tape": 3}
    explained = await result(client, params=params, content=photo(200, size))
    explanation = explained["explanation"]
    assert [token["token"] for token in explanation["tokens"]] == [0, 1, 2]
    assert explanation["upload_size"] == {"width": 80, "height": 40}
    assert explanation["input_size"] == {"width": SIDE_PX, "height": SIDE_PX}
    for token in explanation["tokens"]:
        assert sum(read["weight"] for read in token["reads"]) == pytest.approx(1)
        for read in token["reads"]:
            box, upload = read["box"], read["upload_box"]
            assert 0 <= box["left"] < box["right"] <= SIDE_PX
            assert 0 <= box["top"] < box["bottom"] <= SIDE_PX
            assert (upload["left"], upload["right"]) == (box["left"] * 10, box["right"] * 10)
            assert (upload["top"], upload["bottom"]) == (box["top"] * 5, box["bottom"] * 5)


async def test_an_answer_is_explained_only_when_asked(client):
    assert "explanation" not in await result(client, content=photo())


def test_boxes_lie_inside_the_image_and_cover_it():
    manifest = fake_manifest()
    bank = manifest.bank
    covered = np.zeros((SIDE_PX, SIDE_PX), bool)
    for entry in range(bank.rows * bank.cols):
        left, top, right, bottom = map(int, patch_box(*divmod(entry, bank.cols), manifest))
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_a_learnable_bank_has_entries_but_no_places():
    manifest = fake_manifest()
    manifest = manifest.model_copy(
        update={"bank": manifest.bank.model_copy(update={"kind": "learn", "rows": 1, "cols": 32, "patch_px": 0})}
    )
    receipt = Receipt(FAMILY, "1", 2, BudgetReason.REQUESTED, 1, 1, 4, 1, 1, 0.0, 0.0, 0.0, 0.0)
    picks, weights = np.array([[3, 5]], np.int32), np.array([[0.75, 0.25]], np.float32)
    answer = InferAnswer("1", FAMILY, "1", (Sample(np.zeros(10, np.float32), receipt, picks, weights),))
    (only,) = to_answer(answer, manifest, [None], [Placement(8, 8, 0, 0, 1, 1)], 1)["results"]
    reads = [{"entry": 3, "weight": 0.75}, {"entry": 5, "weight": 0.25}]
    assert only["explanation"]["tokens"] == [{"token": 0, "reads": reads}]


async def test_receipts_add_up_to_the_counters():
    app = make_app()
    async with serving(app) as client:
        responses = await asyncio.gather(
            *(
                client.post("/v1/classify", params={"max_tape": cap}, files=[("file", photo(level))] * count)
                for cap, level, count in [(0, 10, 1), (3, 200, 2), (16, 255, 1), (99, 128, 3)]
            )
        )
        text = (await client.get("/metrics")).text
    receipts = [each["receipt"] for response in responses for each in response.json()["results"]]
    useful = sum(receipt["useful_flops"] for receipt in receipts)
    padding = sum(receipt["executed_flops"] for receipt in receipts) - useful
    assert f'adatape_flops_total{{kind="useful",model="{FAMILY}"}} {float(useful)}' in text
    assert f'adatape_flops_total{{kind="padding",model="{FAMILY}"}} {float(padding)}' in text
    assert f'adatape_inferences_total{{model="{FAMILY}"}} {float(len(receipts))}' in text
