"""The published repository on a real Triton: the same answers as the embedded engine gives."""

import asyncio
import functools

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as asyncclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from loadtest.triton import Triton
from server.backends.base import Model
from server.models.manifest import Manifest

pytestmark = pytest.mark.triton

OUTPUTS = ("logits", "probabilities", "tape_length", "tape_length_wanted", "flops")


@pytest.fixture(scope="module", params=[grpcclient, httpclient], ids=["grpc", "http"])
def flavour(request):
    """A module of tritonclient."""
    return request.param


@pytest.fixture
def ask(flavour, triton: Triton, manifest: Manifest):
    """Ask the router over one transport."""
    address = triton.grpc if flavour is grpcclient else triton.http
    with flavour.InferenceServerClient(address) as client:
        yield functools.partial(infer, flavour, client, manifest.family)


def tensor(flavour, name: str, datatype: str, values: np.ndarray):
    made = flavour.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def inputs(flavour, images_BHWC: np.ndarray, caps_B: np.ndarray | None) -> list:
    made = [tensor(flavour, "image", "UINT8", images_BHWC)]
    if caps_B is not None:
        made.append(tensor(flavour, "max_tape", "INT32", np.array(caps_B, np.int32)[:, None]))
    return made


def infer(flavour, client, family: str, images_BHWC: np.ndarray, caps_B=None, **options) -> dict[str, np.ndarray]:
    answer = client.infer(family, inputs(flavour, images_BHWC, caps_B), **options)
    return {name: answer.as_numpy(name) for name in OUTPUTS}


def expected(model: Model, manifest: Manifest, image_HWC: np.ndarray, cap: int) -> dict[str, np.ndarray]:
    """Return what the embedded engine computes for one image alone."""
    reading = model.read(image_HWC[None], np.array([[cap]], np.int32))
    length = int(reading.tape_length_B1[0, 0])
    tape_BTD = reading.tape_BND[:, : manifest.bucket_for(length)]
    logits_BC = model.run_trunk(reading.hidden_BSD, tape_BTD, reading.tape_length_B1)
    exp_BC = np.exp(logits_BC - logits_BC.max())
    return {
        "logits": logits_BC[0],
        "probabilities": (exp_BC / exp_BC.sum())[0],
        "tape_length": reading.tape_length_B1[0],
        "tape_length_wanted": reading.tape_length_wanted_B1[0],
        "flops": np.array([manifest.flops.useful(length, cap)]),
    }


def check(model: Model, manifest: Manifest, images_BHWC: np.ndarray, caps_B, answer: dict[str, np.ndarray]) -> None:
    """Hold an answer against the embedded engine, row by row."""
    for row, (image_HWC, cap) in enumerate(zip(images_BHWC, caps_B, strict=True)):
        wanted = expected(model, manifest, image_HWC, min(int(cap), manifest.tape_capacity))
        for name in OUTPUTS:
            assert answer[name].dtype == wanted[name].dtype
            np.testing.assert_allclose(answer[name][row], wanted[name], rtol=0, atol=1e-4, err_msg=f"{name} {cap}")


def test_without_a_cap(ask, embedded: Model, manifest: Manifest, images: np.ndarray):
    answer = ask(images)
    check(embedded, manifest, images, [manifest.tape_capacity] * len(images), answer)
    assert len(set(answer["tape_length"].ravel().tolist())) > 1, "these images do not tell buckets apart"


def test_a_cap_for_each_sample(ask, embedded: Model, manifest: Manifest, images: np.ndarray):
    caps_B = np.arange(len(images)) % (manifest.tape_capacity + 3)
    check(embedded, manifest, images, caps_B, ask(images, caps_B))


@pytest.mark.parametrize("cap", [0, 1, 100])
def test_a_cap_as_a_parameter(ask, embedded: Model, manifest: Manifest, images: np.ndarray, cap: int):
    answer = ask(images, parameters={"max_tape": cap})
    check(embedded, manifest, images, [cap] * len(images), answer)


def test_the_smaller_of_two_caps_holds(ask, embedded: Model, manifest: Manifest, images: np.ndarray):
    caps_B = np.arange(len(images)) % (manifest.tape_capacity + 1)
    answer = ask(images, caps_B, parameters={"max_tape": 2})
    check(embedded, manifest, images, np.minimum(caps_B, 2), answer)


@pytest.mark.parametrize("value", [-1, "many", 1.5, True])
def test_a_cap_that_is_none_is_refused(ask, images: np.ndarray, value: object):
    with pytest.raises(InferenceServerException, match=r"max_tape; got .*; expected an integer of 0 or more"):
        ask(images[:1], parameters={"max_tape": value})


def test_a_negative_cap_of_one_sample_is_refused(ask, images: np.ndarray):
    with pytest.raises(InferenceServerException, match="max_tape; got -3; expected"):
        ask(images[:2], [1, -3])


def test_classes_by_label(flavour, triton: Triton, manifest: Manifest, images: np.ndarray):
    wanted = flavour.InferRequestedOutput("probabilities", class_count=3)
    address = triton.grpc if flavour is grpcclient else triton.http
    with flavour.InferenceServerClient(address) as client:
        answer = client.infer(manifest.family, inputs(flavour, images[:2], None), outputs=[wanted])
    for text in answer.as_numpy("probabilities").ravel():
        _, index, label = text.decode().split(":")
        assert manifest.labels[int(index)] == label


async def test_many_callers_get_each_their_own(triton: Triton, embedded: Model, manifest: Manifest, images: np.ndarray):
    rng = np.random.default_rng(1)
    asked = [(rng.permutation(len(images))[: 1 + i % 4], rng.integers(0, 6, 1 + i % 4)) for i in range(60)]

    async def one(client: asyncclient.InferenceServerClient, rows_B: np.ndarray, caps_B: np.ndarray) -> None:
        answer = await client.infer(manifest.family, inputs(asyncclient, images[rows_B], caps_B))
        outputs = {name: answer.as_numpy(name) for name in OUTPUTS}
        check(embedded, manifest, images[rows_B], caps_B, outputs)

    async with asyncclient.InferenceServerClient(triton.grpc) as client:
        await asyncio.gather(*(one(client, rows_B, caps_B) for rows_B, caps_B in asked))


def test_every_model_of_the_repository_is_ready(triton: Triton, manifest: Manifest):
    with grpcclient.InferenceServerClient(triton.grpc) as client:
        index = client.get_model_repository_index().models
    names = {manifest.family, *(graph.name for graph in manifest.graphs())}
    assert {(model.name, model.state) for model in index} == {(name, "READY") for name in names}
