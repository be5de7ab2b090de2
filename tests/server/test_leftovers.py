"""What is over is gone at once: no cycle keeps a request's bytes, its errors or its model until a collection."""

import asyncio
import gc
import json
from contextlib import contextmanager

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from server.backends.fake import FAMILY
from server.engine.jobs import Job
from server.errors import NotFound, ServeError, forget_frames
from server.http.exchange import HttpRequest
from server.records import InferRequest
from tests.server.oip_grpc.calls import request
from tests.server.oip_grpc.calls import serving as serving_grpc
from tests.server.surface import make_app, photo
from tests.server.surface import serving as serving_http

KINDS = (ServeError, InferRequest, Job, HttpRequest)
INFER = f"/v2/models/{FAMILY}/infer"


_known: list[object] = []
"""What other tests left before the one that runs; held, so that nothing new is taken for it."""


@contextmanager
def no_collector():
    gc.collect()
    _known[:] = _all()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _known.clear()


def _all() -> list[object]:
    return [each for each in gc.get_objects() if issubclass(type(each), KINDS)]


def leftovers() -> list[object]:
    known = {id(each) for each in _known}
    return [each for each in _all() if id(each) not in known]


async def nothing_left():
    """Give a server that has just answered a few turns to finish."""
    for _ in range(8):
        if not leftovers():
            return True
        await asyncio.sleep(0.1)
    return False


CALLS = {
    "an answer": ("/v1/classify", {"content": photo()}, 200),
    "no tensors": (INFER, {"content": b"{}"}, 400),
    "no image": ("/v1/classify", {"content": b"no image"}, 415),
    "half an image": ("/v1/classify", {"content": photo()[:60]}, 415),
    "two images, of which one is none": ("/v1/classify", {"files": [("file", photo()), ("file", b"none")]}, 415),
    "a late call": ("/v1/classify?deadline_ms=0.001", {"content": photo()}, 504),
    "an unknown model": ("/v1/classify?model=nobody", {"content": photo()}, 404),
    "broken JSON": (INFER, {"content": b"{"}, 400),
    "an unknown path": ("/v1/nothing", {"content": b""}, 404),
    "JSON of the wrong form": (INFER, {"content": json.dumps({"inputs": [{"name": "x"}]}).encode()}, 400),
}


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_is_left_of_an_http_call(name):
    path, content, status = CALLS[name]
    async with serving_http() as client:
        await client.post(path, **content)
        with no_collector():
            response = await client.post(path, **content)
            assert response.status_code == status, response.text
            assert await nothing_left(), leftovers()


async def test_nothing_is_left_of_a_batch_that_failed():
    app = make_app(fake_faults="raise")
    async with serving_http(app) as client:
        with no_collector():
            response = await client.post("/v1/classify", content=photo(0))
            responses = await asyncio.gather(*(client.post("/v1/classify", content=photo(level)) for level in range(9)))
            assert {each.status_code for each in (response, *responses)} <= {200, 500}
            assert await nothing_left(), leftovers()


async def test_nothing_is_left_of_an_rpc_that_was_refused():
    wrong = request()
    wrong.inputs[0].shape[1] += 1
    calls = [
        (request(model="nobody"), "NOT_FOUND"),
        (wrong, "INVALID_ARGUMENT"),
        (request(max_tape=-1), "INVALID_ARGUMENT"),
    ]
    async with serving_grpc() as world:
        await world.stub.ModelInfer(request())
        with no_collector():
            for message, code in calls:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await world.stub.ModelInfer(message)
                assert refused.value.code().name == code
                assert await nothing_left(), leftovers()


async def test_nothing_is_left_of_streams_that_were_answered_or_cut_off():
    async with serving_grpc() as world:
        await world.stub.ModelInfer(request())
        with no_collector():
            answers = [
                answer async for answer in world.stub.ModelStreamInfer(iter([request(), request(model="nobody")]))
            ]
            assert sorted(bool(answer.error_message) for answer in answers) == [False, True]
            del answers
            call = world.stub.ModelStreamInfer()
            await call.write(request(name="first"))
            assert isinstance(await call.read(), pb.ModelStreamInferResponse)
            call.cancel()
            assert await call.code() == grpc.StatusCode.CANCELLED
            assert await nothing_left(), leftovers()


def test_errors_that_were_told_hold_no_frames():
    try:
        try:
            raise ValueError("inner")
        except ValueError as inner:
            raise NotFound("outer") from inner
    except NotFound as error:
        told = error
    forget_frames(told)
    assert told.__traceback__ is None
    assert told.__cause__ is not None
    assert told.__cause__.__traceback__ is None


async def test_nothing_is_left_of_rpcs_that_were_cancelled_while_they_ran():
    async with serving_grpc(fake_faults="slow=0.05") as world:
        await world.stub.ModelInfer(request())
        with no_collector():
            unary = world.stub.ModelInfer(request())
            await asyncio.sleep(0.02)
            unary.cancel()
            stream = world.stub.ModelStreamInfer(iter([request(progressive=True) for _ in range(3)]))
            assert isinstance(await stream.read(), pb.ModelStreamInferResponse)
            stream.cancel()
            assert await stream.code() == grpc.StatusCode.CANCELLED
            assert await nothing_left(), leftovers()
