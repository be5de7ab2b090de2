"""Streaming with the synchronous and the asynchronous gRPC client."""

import queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio

from loadtest.process import Server


@pytest.fixture
def address(server: Server) -> str:
    return server.grpc


def image(model: dict[str, Any]) -> Any:
    size = model["preprocessing"]
    tensor = tritonclient.grpc.InferInput("image", [1, size["height"], size["width"], 3], "UINT8")
    return tensor.set_data_from_numpy(np.full((1, size["height"], size["width"], 3), 200, np.uint8))


def test_answers_and_errors_come_back_on_one_stream(address: str, model: dict[str, Any]) -> None:
    arrived: queue.Queue[Any] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        for index in range(20):
            client.async_stream_infer(model["name"], [image(model)], request_id=str(index))
        client.async_stream_infer("cat", [image(model)])
        outcomes = [arrived.get(timeout=30) for _ in range(21)]
        client.stop_stream()
    assert sorted(int(result.get_response().id) for result, _ in outcomes if result) == list(range(20))
    (error,) = [error for _, error in outcomes if error]
    assert error.message().startswith("model; got cat; expected one of: ")


def test_a_progressive_answer_is_refined(address: str, model: dict[str, Any]) -> None:
    arrived: queue.Queue[Any] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(address) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        client.async_stream_infer(model["name"], [image(model)], parameters={"progressive": True})
        (first, _), (refined, _) = arrived.get(timeout=30), arrived.get(timeout=30)
        client.stop_stream()
        whole = client.infer(model["name"], [image(model)])
    assert first.as_numpy("tape_length") == 0
    assert not first.get_response().parameters["triton_final_response"].bool_param
    assert refined.get_response().parameters["triton_final_response"].bool_param
    np.testing.assert_allclose(refined.as_numpy("logits"), whole.as_numpy("logits"), rtol=1e-4, atol=1e-4)


async def test_asynchronous_streams(address: str, model: dict[str, Any]) -> None:
    async def requests() -> Any:
        for index in range(10):
            yield {"model_name": model["name"], "inputs": [image(model)], "request_id": str(index)}

    async with tritonclient.grpc.aio.InferenceServerClient(address) as client:
        names = [result.get_response().id async for result, error in client.stream_infer(requests()) if not error]
    assert sorted(map(int, names)) == list(range(10))
