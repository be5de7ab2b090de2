"""The Triton router: whom it calls with which rows, and that nobody's answer gets lost or mixed up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.names import Names
from export.runtime import Runtime
from server.models.manifest import Flops, Manifest
from tests.export.conftest import CONFIG, FAMILY
from tests.export.fake_triton import Arrays, FakeTriton, load_router, request

CAPACITY = 4
FLOPS = {"embed": 1000, "bank": 100, "read_step": 10, "trunk": [1, 2, 3, 4, 5]}
MANIFEST = {
    "version": "3",
    "tape_capacity": CAPACITY,
    "buckets": [0, 2, 4],
    "reader": {"name": "f_reader"},
    "trunks": [{"name": "f_trunk_t00"}, {"name": "f_trunk_t02"}, {"name": "f_trunk_t04"}],
    "flops": FLOPS,
}


def read(feeds: Arrays) -> Arrays:
    """A reader whose images say how long a tape they want."""
    wanted_B1 = feeds["image"].reshape(len(feeds["image"]), -1)[:, :1].astype(np.int32) * (feeds["max_tape"] > 0)
    length_B1 = np.minimum(wanted_B1, feeds["max_tape"])
    hidden_BSD = feeds["image"].reshape(len(wanted_B1), -1)[:, None, 1:2].astype(np.float32)
    tape_BND = np.tile(np.arange(1, CAPACITY + 1, dtype=np.float32)[:, None], (len(wanted_B1), 1, 1))
    return {"hidden": hidden_BSD, "tape": tape_BND, "tape_length": length_B1, "tape_length_wanted": wanted_B1}


def trunk(feeds: Arrays) -> Arrays:
    """A trunk that answers (the image's mark, its tape length)."""
    length_B1 = feeds.get("tape_length", np.zeros((len(feeds["hidden"]), 1)))
    return {"logits": np.concatenate([feeds["hidden"][:, 0], length_B1], axis=1).astype(np.float32)}


def images(*pairs: tuple[int, int]) -> Any:
    """Images [B,1,1,3] of (tape length wanted, mark)."""
    return np.array([[[[wanted, mark, 0]]] for wanted, mark in pairs], np.uint8)


@pytest.fixture
def triton() -> FakeTriton:
    return FakeTriton({"f_reader": read, **dict.fromkeys(("f_trunk_t00", "f_trunk_t02", "f_trunk_t04"), trunk)})


@pytest.fixture
def router(triton: FakeTriton, tmp_path: Path) -> Any:
    folder = tmp_path / "f" / "3"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    return load_router(triton, folder)


async def test_rows_of_all_requests_share_their_bucket(triton, router):
    first, second = await router.execute([request(images((3, 7), (1, 8))), request(images((4, 9), (2, 10)))])
    assert first.arrays()["logits"].tolist() == [[7, 3], [8, 1]]
    assert second.arrays()["logits"].tolist() == [[9, 4], [10, 2]]
    assert triton.rows("f_reader") == [4]
    assert triton.rows("f_trunk_t02") == triton.rows("f_trunk_t04") == [2]
    assert triton.rows("f_trunk_t00") == []


async def test_trunks_run_at_the_same_time(triton, router):
    await router.execute([request(images((0, 1), (1, 2), (4, 3)))])
    assert triton.max_running == 3


async def test_every_model_is_called_in_the_routers_version(triton, router):
    await router.execute([request(images((4, 1)))])
    assert {version for _, version, _ in triton.calls} == {3}


async def test_a_bucket_gets_as_much_tape_as_it_holds_and_bucket_0_none(triton, router):
    await router.execute([request(images((1, 1), (4, 2)), [1, 4]), request(images((4, 3)), [0])])
    feeds = {model: feeds for model, _, feeds in triton.calls if model != "f_reader"}
    assert feeds["f_trunk_t02"]["tape"].shape == (1, 2, 1)
    assert feeds["f_trunk_t04"]["tape"].shape == (1, 4, 1)
    assert set(feeds["f_trunk_t00"]) == {"hidden"}


async def test_rows_that_read_nothing_are_not_read_with_the_others(triton, router):
    (response,) = await router.execute([request(images((3, 1), (3, 2), (3, 3)), [0, 4, 0])])
    assert response.arrays()["logits"].tolist() == [[1, 0], [2, 3], [3, 0]]
    assert sorted(triton.rows("f_reader")) == [1, 2]
    assert {tuple(feeds["max_tape"][:, 0]) for model, _, feeds in triton.calls if model == "f_reader"} == {(4,), (0, 0)}


@pytest.mark.parametrize(
    ("max_tape", "parameters", "lengths"),
    [
        (None, {}, [3, 4]),
        ([1, 9], {}, [1, 4]),
        (None, {"max_tape": 2}, [2, 2]),
        ([1, 4], {"max_tape": 2}, [1, 2]),
        (None, {"priority": 1}, [3, 4]),
    ],
)
async def test_the_smaller_of_input_and_parameter_is_the_cap(router, max_tape, parameters, lengths):
    (response,) = await router.execute([request(images((3, 1), (4, 2)), max_tape, **parameters)])
    assert response.arrays()["tape_length"][:, 0].tolist() == lengths
    assert response.arrays()["tape_length_wanted"][:, 0].tolist() == [3, 4]


async def test_flops_are_the_useful_ones_of_the_manifest(router):
    (response,) = await router.execute([request(images((3, 1), (4, 2), (4, 3)), [4, 2, 0])])
    flops = Flops.model_validate(FLOPS)
    found = response.arrays()["flops"]
    assert found.dtype == np.int64
    assert found[:, 0].tolist() == [flops.useful(3, 4), flops.useful(2, 2), flops.useful(0, 0)]


async def test_probabilities_are_those_of_the_logits(router):
    (response,) = await router.execute([request(images((3, 200), (0, 0)))])
    probabilities_BC = response.arrays()["probabilities"]
    assert probabilities_BC.dtype == np.float32
    np.testing.assert_allclose(probabilities_BC, [[1, 0], [0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "got"),
    [
        (request(images((3, 1)), [-1]), "-1"),
        (request(images((3, 1)), max_tape=-2), "-2"),
        (request(images((3, 1)), max_tape="8"), "'8'"),
        (request(images((3, 1)), max_tape=True), "True"),
        (request(images((3, 1)), max_tape=1.5), "1.5"),
    ],
)
async def test_a_bad_cap_fails_its_own_request_only(router, bad, got):
    before, refused, after = await router.execute([request(images((3, 5))), bad, request(images((1, 6)))])
    assert refused.error().message() == f"max_tape; got {got}; expected an integer of 0 or more"
    assert refused.error().code == refused.error().INVALID_ARG
    assert before.arrays()["logits"].tolist() == [[5, 3]]
    assert after.arrays()["logits"].tolist() == [[6, 1]]


async def test_only_bad_requests_call_nothing(triton, router):
    (response,) = await router.execute([request(images((3, 5)), [-1])])
    assert response.has_error()
    assert triton.calls == []


def fail(feeds: Arrays) -> Arrays:
    del feeds
    raise ValueError("out of memory")


async def test_a_failing_bucket_fails_the_requests_that_need_it(triton, router):
    triton.models["f_trunk_t02"] = fail
    first, second = await router.execute([request(images((4, 5), (1, 6))), request(images((3, 7)))])
    assert first.error().message() == "f_trunk_t02: out of memory"
    assert second.arrays()["logits"].tolist() == [[7, 3]]


async def test_a_failing_reader_fails_all_and_no_trunk_runs(triton, router):
    triton.models["f_reader"] = fail
    responses = await router.execute([request(images((4, 5))), request(images((3, 7)), [0])])
    assert [response.error().message() for response in responses] == ["f_reader: out of memory"] * 2
    assert {model for model, _, _ in triton.calls} == {"f_reader"}


async def test_rows_that_could_not_be_read_run_no_trunk(triton, router):
    triton.models["f_reader"] = lambda feeds: read(feeds) if feeds["max_tape"].any() else fail(feeds)
    capped, free = await router.execute([request(images((4, 5)), [0]), request(images((3, 7)))])
    assert capped.error().message() == "f_reader: out of memory"
    assert free.arrays()["logits"].tolist() == [[7, 3]]
    assert triton.rows("f_trunk_t00") == []


async def test_a_bug_is_not_taken_for_a_failed_model(triton, router):
    del triton.models["f_trunk_t04"]
    with pytest.raises(KeyError):
        await router.execute([request(images((4, 5)))])


async def test_published_router_answers_as_reader_and_trunks_do(repository: Path, names: Names, runtime: Runtime):
    sessions = {model: _session(repository, names, model) for model in names.graphs}
    router = load_router(FakeTriton(sessions), repository / FAMILY / "1")
    manifest = Manifest.model_validate_json((repository / FAMILY / "1" / "manifest.json").read_bytes())
    image_BHWC = np.random.default_rng(0).integers(0, 256, (6, CONFIG.image_size, CONFIG.image_size, 3), np.uint8)
    caps = [0, 1, 2, 3, 4, 4]
    (response,) = await router.execute([request(image_BHWC, caps)])
    logits_BC, reading = runtime.answer(image_BHWC, np.array(caps))
    found = response.arrays()
    np.testing.assert_allclose(found["logits"], logits_BC, atol=1e-5)
    for output in ("tape_length", "tape_length_wanted"):
        np.testing.assert_array_equal(found[output], reading[output])
    useful = [manifest.flops.useful(length, cap) for length, cap in zip(found["tape_length"][:, 0], caps, strict=True)]
    assert found["flops"][:, 0].tolist() == useful


def _session(repository: Path, names: Names, model: str) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(repository / names.path(model), providers=["CPUExecutionProvider"])
    outputs = [port.name for port in session.get_outputs()]
    return lambda feeds: dict(zip(outputs, session.run(outputs, feeds), strict=True))
