"""The field's own clients, all four flavours, against a real server process: to them it might be a Triton."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from PIL import Image
from tritonclient.utils import InferenceServerException

MODULES = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}
OUTPUTS = {
    "logits": np.float32,
    "probabilities": np.float32,
    "tape_length": np.int32,
    "tape_length_wanted": np.int32,
    "flops": np.int64,
}

# gevent, below the HTTP client, meets a Python that has deprecated what it uses.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@dataclass
class Client:
    """One flavour of client, called as if it were synchronous."""

    flavour: str
    module: Any
    inner: Any
    runner: asyncio.Runner | None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*args: Any, **options: Any) -> Any:
            return method(*args, **options) if self.runner is None else self.runner.run(wait(method, args, options))

        return call

    @property
    def is_http(self) -> bool:
        return self.flavour.startswith("http")

    def input(self, name: str, data: np.ndarray, datatype: str = "UINT8", **options: Any) -> Any:
        tensor = self.module.InferInput(name, list(data.shape), datatype)
        tensor.set_data_from_numpy(data, **options)
        return tensor

    def output(self, name: str, **options: Any) -> Any:
        return self.module.InferRequestedOutput(name, **options)


async def wait(method: Any, args: Any, options: Any) -> Any:
    return await method(*args, **options)


@pytest.fixture(params=MODULES)
def triton(request: pytest.FixtureRequest, case: Any) -> Iterator[Client]:
    module, is_aio = MODULES[request.param], request.param.endswith("aio")
    running, _ = case
    address = running.url.removeprefix("http://") if request.param.startswith("http") else running.grpc
    runner = asyncio.Runner() if is_aio else None

    async def make() -> Any:
        return module.InferenceServerClient(address)

    inner = module.InferenceServerClient(address) if runner is None else runner.run(make())
    client = Client(request.param, module, inner, runner)
    yield client
    client.close()
    if runner is not None:
        runner.close()


@pytest.fixture
def images(model: dict[str, Any]) -> np.ndarray:
    size = model["preprocessing"]
    return np.random.default_rng(0).integers(0, 256, (3, size["height"], size["width"], 3), np.uint8)


OVER_HTTP = pytest.mark.parametrize("triton", ["http", "http.aio"], indirect=True)


def plain(document: Any, triton: Client) -> Any:
    """Return a reply as a document, whatever the transport."""
    if triton.is_http:
        return document
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(document, preserving_proto_field_name=True)


# --- Health, metadata, configuration, statistics -----------------------------------------------


def test_health(triton: Client, model: dict[str, Any]) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(model["name"])
    assert triton.is_model_ready(model["name"], model["version"])


def test_metadata_and_configuration(triton: Client, model: dict[str, Any]) -> None:
    assert "binary_tensor_data" in plain(triton.get_server_metadata(), triton)["extensions"]
    metadata = plain(triton.get_model_metadata(model["name"]), triton)
    assert (metadata["name"], metadata["versions"]) == (model["name"], [model["version"]])
    assert [port["name"] for port in metadata["outputs"]] == list(OUTPUTS)
    config = plain(triton.get_model_config(model["name"]), triton)
    config = config if triton.is_http else config["config"]
    assert config["max_batch_size"] == model["max_batch_size"]
    assert config["parameters"]["device"]["string_value"] == model["device"]


def test_statistics_count_what_was_asked(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    def count() -> tuple[int, int]:
        (stats,) = plain(triton.get_inference_statistics(model["name"]), triton)["model_stats"]
        return int(stats.get("inference_count", 0)), int(stats["inference_stats"]["success"].get("count", 0))

    before = count()
    triton.infer(model["name"], [triton.input("image", images)])
    assert count() == (before[0] + 3, before[1] + 1)


def test_the_repository(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    def states() -> dict[str, str]:
        index = plain(triton.get_model_repository_index(), triton)
        return {each["name"]: each["state"] for each in (index if triton.is_http else index["models"])}

    assert states()[model["name"]] == "READY"
    triton.unload_model(model["name"])
    assert states()[model["name"]] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="expected a family that is loaded"):
        triton.infer(model["name"], [triton.input("image", images)])
    triton.load_model(model["name"])
    assert states()[model["name"]] == "READY"
    triton.infer(model["name"], [triton.input("image", images)])


# --- Inference ---------------------------------------------------------------------------------


def test_all_outputs(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    result = triton.infer(model["name"], [triton.input("image", images)], request_id="my id")
    for name, dtype in OUTPUTS.items():
        assert result.as_numpy(name).dtype == dtype
        assert len(result.as_numpy(name)) == len(images)
    np.testing.assert_allclose(result.as_numpy("probabilities").sum(axis=1), 1, rtol=1e-5)
    assert (result.as_numpy("tape_length") <= model["tape_capacity"]).all()
    assert (result.as_numpy("flops") >= model["min_flops"]).all()
    response = result.get_response()
    assert (response["id"] if triton.is_http else response.id) == "my id"
    assert result.as_numpy("nothing") is None


def test_caps_by_tensor_and_by_parameter(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    caps = triton.input("max_tape", np.array([[0], [1], [99]], np.int32), "INT32")
    result = triton.infer(model["name"], [triton.input("image", images), caps], parameters={"max_tape": 2})
    lengths = result.as_numpy("tape_length").ravel()
    assert (lengths <= [0, 1, 2]).all()
    assert result.as_numpy("tape_length_wanted")[0] == 0
    full = triton.infer(model["name"], [triton.input("image", images)])
    assert (result.as_numpy("flops") <= full.as_numpy("flops")).all()


def test_encoded_images_answer_like_their_pixels(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    files = np.empty((len(images), 1), np.object_)
    for row, pixels in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files[row, 0] = buffer.getvalue()
    encoded = triton.infer(model["name"], [triton.input("encoded", files, "BYTES")])
    direct = triton.infer(model["name"], [triton.input("image", images)])
    np.testing.assert_allclose(encoded.as_numpy("logits"), direct.as_numpy("logits"), rtol=1e-4, atol=1e-4)


def test_classification(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    outputs = [triton.output("probabilities", class_count=3), triton.output("logits")]
    result = triton.infer(model["name"], [triton.input("image", images)], outputs=outputs)
    best = result.as_numpy("probabilities")
    assert best.shape == (3, 3)
    score, index, label = best[0, 0].decode().split(":", 2)
    assert int(index) == result.as_numpy("logits")[0].argmax()
    assert label == model["labels"][int(index)]
    assert 0 < float(score) <= 1


def test_options_of_the_protocol(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    result = triton.infer(
        model["name"], [triton.input("image", images)], model_version=model["version"], priority=1, timeout=60_000_000
    )
    assert len(result.as_numpy("logits")) == 3


@OVER_HTTP
@pytest.mark.parametrize("is_binary", [True, False])
def test_json_and_binary_tensors(triton: Client, model: dict[str, Any], images: np.ndarray, is_binary: bool) -> None:
    tensor = triton.input("image", images, binary_data=is_binary)
    wanted = [
        triton.output("logits", binary_data=not is_binary),
        triton.output("flops", binary_data=is_binary),
    ]
    mixed = triton.infer(model["name"], [tensor], outputs=wanted)
    plain_ = triton.infer(model["name"], [triton.input("image", images)])
    for name in ("logits", "flops"):
        np.testing.assert_allclose(mixed.as_numpy(name), plain_.as_numpy(name), rtol=1e-6)


@OVER_HTTP
@pytest.mark.parametrize("up", ["gzip", "deflate"])
@pytest.mark.parametrize("down", ["gzip", "deflate"])
def test_compression(triton: Client, model: dict[str, Any], images: np.ndarray, up: str, down: str) -> None:
    result = triton.infer(
        model["name"],
        [triton.input("image", images)],
        request_compression_algorithm=up,
        response_compression_algorithm=down,
    )
    assert len(result.as_numpy("logits")) == 3


def test_many_requests_at_once(model: dict[str, Any], case: Any) -> None:
    """As callers do it: the thread pool of the synchronous client."""
    running, _ = case
    side = (model["preprocessing"]["height"], model["preprocessing"]["width"])
    with tritonclient.http.InferenceServerClient(running.url.removeprefix("http://"), concurrency=8) as client:
        levels = range(0, 240, 5)
        pending = []
        for level in levels:
            tensor = tritonclient.http.InferInput("image", [1, *side, 3], "UINT8")
            tensor.set_data_from_numpy(np.full((1, *side, 3), level, np.uint8))
            pending.append((client.async_infer(model["name"], [tensor], request_id=str(level)), level))
        for future, level in pending:
            assert future.get_result().get_response()["id"] == str(level)


# --- Errors ------------------------------------------------------------------------------------


def test_errors_carry_our_message_and_status(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    statuses = ("404", "400") if triton.is_http else ("StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT")
    with pytest.raises(InferenceServerException, match="model; got cat; expected one of: ") as missing:
        triton.infer("cat", [triton.input("image", images)])
    with pytest.raises(InferenceServerException, match=r"batch of input image; got 0; expected 1 to \d+") as empty:
        triton.infer(model["name"], [triton.input("image", images[:0])])
    assert (missing.value.status(), empty.value.status()) == statuses
    with pytest.raises(InferenceServerException, match="max_tape in the request parameters; got -1; expected"):
        triton.infer(model["name"], [triton.input("image", images)], parameters={"max_tape": -1})
    triton.infer(model["name"], [triton.input("image", images)])


def test_a_deadline_that_cannot_be_met(triton: Client, model: dict[str, Any], images: np.ndarray) -> None:
    status = "504" if triton.is_http else "StatusCode.DEADLINE_EXCEEDED"
    with pytest.raises(InferenceServerException, match="deadline; got ") as late:
        triton.infer(model["name"], [triton.input("image", images)], timeout=1)
    assert late.value.status() == status
