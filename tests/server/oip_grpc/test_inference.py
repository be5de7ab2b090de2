"""The protocol over gRPC, in this process: forms, status codes, deadlines, streams, progressive answers, drain."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from server.backends.fake import FAMILY, MAX_BATCH_SIZE, NUM_CLASSES, FakeModel
from server.dataplane import DataPlane
from server.errors import Overloaded, ServeError, all_errors
from server.oip_grpc import GrpcServer
from server.oip_grpc.errors import CODES, code_of
from server.settings import Settings
from tests.server.oip.calls import pixels
from tests.server.oip_grpc.calls import (
    BODY,
    FLOPS,
    Code,
    arrays,
    parameter,
    refused,
    request,
    serving,
    tensor,
    until,
)
from tests.server.surface import photo


@pytest.fixture
async def world():
    async with serving() as world:
        yield world


# --- Unary -------------------------------------------------------------------------------------


async def test_raw_contents(world):
    response = await world.stub.ModelInfer(request(name="7", max_tape=5))
    assert (response.model_name, response.model_version, response.id) == (FAMILY, "1", "7")
    found = arrays(response)
    assert list(found) == ["logits", "probabilities", "tape_length", "tape_length_wanted", "flops"]
    np.testing.assert_allclose(found["logits"], np.full((1, NUM_CLASSES), 127 / 255 * 6), rtol=1e-6)
    assert (found["tape_length"], found["tape_length_wanted"], found["flops"]) == (5, 8, FLOPS.useful(5, 5))
    assert response.parameters["cap"].int64_param == 5
    assert response.parameters["budget_reason"].string_param == "requested"
    assert response.parameters["total_ms"].double_param > 0


async def test_typed_contents(world):
    contents = pb.InferTensorContents(uint_contents=[127] * len(BODY))
    caps = tensor("max_tape", "INT32", [1, 1], contents=pb.InferTensorContents(int_contents=[3]))
    response = await world.stub.ModelInfer(request(tensor(contents=contents), caps, raw=()))
    assert arrays(response)["tape_length"] == 3


async def test_encoded_images_and_chosen_outputs(world):
    contents = pb.InferTensorContents(bytes_contents=[photo(100), photo(200)])
    outputs = {"tape_length": {}, "logits": {"classification": 2}}
    message = request(tensor("encoded", "BYTES", [2, 1], contents=contents), raw=(), outputs=outputs)
    response = await world.stub.ModelInfer(message)
    assert [output.name for output in response.outputs] == ["tape_length", "logits"]
    assert np.frombuffer(response.raw_output_contents[0], np.int32).tolist() == [6, 12]
    assert response.raw_output_contents[1].count(b":class_") == 4


async def test_unsigned_and_signed_parameters_mean_the_same(world):
    message = request()
    message.parameters["max_tape"].uint64_param = 4
    message.parameters["priority"].uint64_param = 1
    message.parameters["timeout"].int64_param = 10_000_000
    assert (await world.stub.ModelInfer(message)).parameters["cap"].int64_param == 4


WRONG = {
    "input; got photo; expected any of image, encoded, max_tape": request(tensor("photo")),
    "datatype of input image; got FP32; expected UINT8": request(tensor(datatype="FP32")),
    "shape of input image; got [1, 8, 8]": request(tensor(shape=[1, 8, 8])),
    f"batch of input image; got 17; expected 1 to {MAX_BATCH_SIZE}": request(tensor(shape=[17, 8, 8, 3])),
    "batch of input image; got 4611686018427387905": request(tensor(shape=[2**62 + 1, 8, 8, 3])),
    "input image; got 191 bytes; expected 192 bytes": request(raw=[BODY[1:]]),
    "raw_input_contents; got 2 for 1 inputs; expected one an input": request(raw=[BODY, b""]),
    "input image; got 0 values; expected 192": request(raw=()),
    "input image; got 300; expected integers from 0 to 255": request(
        tensor(contents=pb.InferTensorContents(uint_contents=[300] * len(BODY))), raw=()
    ),
    "input image; got contents and raw_input_contents; expected one of the two": request(
        tensor(contents=pb.InferTensorContents(uint_contents=[1]))
    ),
    "output; got score; expected any of": request(outputs={"score": {}}),
    "classification of output logits; got many": request(outputs={"logits": {"classification": "many"}}),
    "max_tape in the request parameters; got -1; expected": request(max_tape=-1),
    "unknown request parameter; got max_tpae; expected": request(max_tpae=1),
    "unknown request parameter; got progressive; expected": request(progressive=True),
    "parameter of image; got shared_memory_region": request(
        tensor(parameters={"shared_memory_region": parameter("r")})
    ),
}


@pytest.mark.parametrize(("message", "wrong"), WRONG.items(), ids=list(WRONG))
async def test_a_wrong_request_is_told_what_is_wrong(world, message, wrong):
    error = await refused(world, Code.INVALID_ARGUMENT, wrong)
    assert error.details().startswith(message)
    assert await world.stub.ModelInfer(request())


async def test_a_parameter_without_a_value(world):
    message = request()
    message.parameters["max_tape"].SetInParent()
    assert (await refused(world, Code.INVALID_ARGUMENT, message)).details().startswith("parameter max_tape; got none")


@pytest.mark.parametrize("wrong", [{"model": "cat"}, {"version": "9"}])
async def test_what_does_not_exist_is_not_found(world, wrong):
    await refused(world, Code.NOT_FOUND, request(**wrong))
    named = {"name": wrong.get("model", FAMILY), "version": wrong.get("version", "")}
    await refused(world, Code.NOT_FOUND, pb.ModelReadyRequest(**named), stub="ModelReady")
    await refused(world, Code.NOT_FOUND, pb.ModelMetadataRequest(**named), stub="ModelMetadata")
    await refused(world, Code.NOT_FOUND, pb.ModelConfigRequest(**named), stub="ModelConfig")
    await refused(world, Code.NOT_FOUND, pb.ModelStatisticsRequest(**named), stub="ModelStatistics")


async def test_missing_extensions_say_so(world):
    error = await refused(world, Code.UNIMPLEMENTED, pb.TraceSettingRequest(), stub="TraceSetting")
    assert error.details() == "RPC; got TraceSetting; expected one of the extensions that ServerMetadata lists"


async def test_a_message_beyond_the_limit():
    async with serving(max_body_bytes=1000) as world:
        await refused(world, Code.RESOURCE_EXHAUSTED, request(raw=[bytes(1000)]))
        assert await world.stub.ModelInfer(request())


async def test_overload_says_when_to_come_back(world, monkeypatch):
    async def refuse(_):
        raise Overloaded("server", "too much", "less", retry_after_s=2.2)

    monkeypatch.setattr(world.engine, "infer", refuse)
    error = await refused(world, Code.RESOURCE_EXHAUSTED, request())
    assert dict(error.trailing_metadata())["retry-after"] == "3"


async def test_a_bug_leaks_nothing(world, monkeypatch, caplog):
    async def fail(_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.engine, "infer", fail)
    error = await refused(world, Code.INTERNAL, request())
    assert error.details() == "the server failed unexpectedly; expected a bug report that names ModelInfer"
    assert "secret detail" in caplog.text


def test_every_error_has_a_code():
    codes = {error: code_of(error("x")) for error in all_errors() if error is not ServeError}
    assert Code.UNKNOWN not in codes.values()
    assert set(codes.values()) == set(CODES.values())


async def test_refusals_are_counted_once_each(world):
    await refused(world, Code.INVALID_ARGUMENT, request(max_tape=-1))
    await refused(world, Code.INVALID_ARGUMENT, request(min_accuracy=0.99))
    labels = {"protocol": "oip_grpc", "outcome": "bad_request"}
    assert world.value("adatape_requests_total", model="none", **labels) == 1
    assert world.value("adatape_requests_total", model=FAMILY, **labels) == 1


# --- Deadlines and departures ------------------------------------------------------------------


class Gate:
    """Holds each run of the reader until it is let through."""

    def __init__(self, monkeypatch):
        self.num_held = 0
        self._passes = threading.Semaphore(0)
        read = FakeModel.read

        def wait(model, *inputs):
            self.num_held += 1
            assert self._passes.acquire(timeout=30)
            return read(model, *inputs)

        monkeypatch.setattr(FakeModel, "read", wait)

    def open(self, num_runs=1):
        self._passes.release(num_runs)


async def test_the_deadline_of_the_rpc_is_the_engines(world, monkeypatch):
    gate = Gate(monkeypatch)
    await refused(world, Code.DEADLINE_EXCEEDED, request(), timeout=0.2)
    gate.open()
    await until(lambda: world.engine.num_pending == 0)
    assert world.value("adatape_requests_total", model=FAMILY, protocol="oip_grpc", outcome="ok") == 0


async def test_a_cancelled_rpc_leaves_the_queue(world, monkeypatch):
    gate = Gate(monkeypatch)
    first = world.stub.ModelInfer(request())
    await until(lambda: gate.num_held == 1)
    second = world.stub.ModelInfer(request())
    await until(lambda: world.engine.num_pending == 2)
    second.cancel()
    await until(lambda: world.engine.num_pending == 1)
    gate.open()
    assert arrays(await first)["tape_length"] == 8
    assert world.value("adatape_requests_total", model=FAMILY, protocol="oip_grpc", outcome="cancelled") == 1


# --- Streams -----------------------------------------------------------------------------------


async def test_a_stream_outlives_its_failures(world):
    requests = [request(name=str(index), max_tape=index - 1) for index in range(4)]
    responses = [response async for response in world.stub.ModelStreamInfer(iter(requests))]
    failed = [response for response in responses if response.error_message]
    assert [response.infer_response.id for response in failed] == ["0"]
    assert failed[0].error_message.startswith("max_tape in the request parameters; got -1")
    answered = {r.infer_response.id: r.infer_response for r in responses if not r.error_message}
    assert {name: arrays(answer)["tape_length"].item() for name, answer in answered.items()} == {"1": 0, "2": 1, "3": 2}
    assert all(answer.parameters["triton_final_response"].bool_param for answer in answered.values())


async def test_many_requests_on_one_stream(world):
    requests = (request(raw=[pixels(level % 256).tobytes()], name=str(level)) for level in range(300))
    stream = world.stub.ModelStreamInfer(requests)
    found = {r.infer_response.id: arrays(r.infer_response) async for r in stream}
    assert len(found) == 300
    for name, outputs in found.items():
        assert outputs["tape_length"] == max(1, (int(name) % 256 + 1) // 16)


@pytest.mark.parametrize(
    ("parameters", "lengths"),
    [
        ({"progressive": True}, [0, 8]),
        ({"progressive": 3}, [3, 8]),
        ({"progressive": 3, "max_tape": 6}, [3, 6]),
        ({"progressive": 8}, [8]),
        ({"progressive": 10}, [8]),
        ({"progressive": 5, "max_tape": 4}, [4]),
        ({"progressive": True, "min_accuracy": 0.55}, [0, 2]),
        ({"progressive": False}, [8]),
    ],
)
async def test_progressive_answers(world, parameters, lengths):
    responses = [r.infer_response async for r in world.stub.ModelStreamInfer(iter([request(**parameters)]))]
    assert [arrays(response)["tape_length"].item() for response in responses] == lengths
    finals = [response.parameters["triton_final_response"].bool_param for response in responses]
    assert finals == [False] * (len(lengths) - 1) + [True]
    assert world.flops_run == sum(response.parameters["executed_flops"].int64_param for response in responses)


@pytest.mark.parametrize("first", [-1, 1.5, "yes"])
async def test_a_first_cap_that_is_none(world, first):
    (response,) = [r async for r in world.stub.ModelStreamInfer(iter([request(progressive=first)]))]
    assert response.error_message.startswith("progressive; got ")


async def test_a_client_that_stops_pays_for_no_refinement(world, monkeypatch):
    """Another call is on the device when the first answer is there, so the refinement waits in line."""
    gate = Gate(monkeypatch)
    stream = world.stub.ModelStreamInfer(iter([request(progressive=True)]))
    await until(lambda: gate.num_held == 1)
    other = asyncio.ensure_future(world.stub.ModelInfer(request(max_tape=0)))
    await until(lambda: world.engine.num_pending == 2)
    gate.open()
    first = await stream.read()
    await until(lambda: gate.num_held == 2 and world.engine.num_pending == 2)
    stream.cancel()
    await until(lambda: world.engine.num_pending == 1)
    gate.open()
    both = (first.infer_response, await other)
    assert world.flops_run == sum(response.parameters["executed_flops"].int64_param for response in both)


# --- Everything else ---------------------------------------------------------------------------


async def test_metadata_configuration_and_health(world):
    assert (await world.stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await world.stub.ServerReady(pb.ServerReadyRequest())).ready
    assert "statistics" in (await world.stub.ServerMetadata(pb.ServerMetadataRequest())).extensions
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name=FAMILY))
    config = (await world.stub.ModelConfig(pb.ModelConfigRequest(name=FAMILY))).config
    assert [list(port.shape)[1:] for port in metadata.inputs] == [list(port.dims) for port in config.input]
    assert config.max_batch_size == MAX_BATCH_SIZE
    assert not config.model_transaction_policy.decoupled


async def test_statistics(world):
    await world.stub.ModelInfer(request())
    (stats,) = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
    assert (stats.name, stats.version, stats.inference_count, stats.execution_count) == (FAMILY, "1", 1, 1)
    assert stats.inference_stats.success.ns > 0
    assert stats.batch_stats[0].batch_size == 1


async def test_unload_and_load(world):
    named = {"model_name": FAMILY}
    await world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(**named))
    assert not (await world.stub.ModelReady(pb.ModelReadyRequest(name=FAMILY))).ready
    assert not (await world.stub.ServerReady(pb.ServerReadyRequest())).ready
    await refused(world, Code.UNAVAILABLE, request())
    index = await world.stub.RepositoryIndex(pb.RepositoryIndexRequest())
    assert [(model.name, model.state) for model in index.models] == [(FAMILY, "UNAVAILABLE")]
    await world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(**named))
    assert (await world.stub.ModelReady(pb.ModelReadyRequest(name=FAMILY))).ready
    with_config = pb.RepositoryModelLoadRequest(**named)
    with_config.parameters["config"].string_param = "{}"
    await refused(world, Code.INVALID_ARGUMENT, with_config, stub="RepositoryModelLoad")
    unknown = pb.RepositoryModelUnloadRequest(model_name="cat")
    await refused(world, Code.NOT_FOUND, unknown, stub="RepositoryModelUnload")


async def test_the_standard_health_service(world):
    stub = health_pb2_grpc.HealthStub(world.channel)
    serving_, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", "inference.GRPCInferenceService", FAMILY):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status == serving_
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="cat"))
    assert caught.value.code() is Code.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=FAMILY))
    assert (await watch.read()).status == serving_
    await world.server.stop(5)
    assert (await watch.read()).status == not_serving
    assert await watch.read() is grpc.aio.EOF


async def test_reflection_lists_the_services(world):
    stub = reflection_pb2_grpc.ServerReflectionStub(world.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    async for response in stub.ServerReflectionInfo(iter([question])):
        names = {service.name for service in response.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


# --- The end -----------------------------------------------------------------------------------


async def test_what_was_accepted_is_answered_and_idle_streams_are_let_go(world, monkeypatch):
    gate = Gate(monkeypatch)
    unary = asyncio.ensure_future(world.stub.ModelInfer(request()))
    stream = world.stub.ModelStreamInfer()
    await stream.write(request())
    idle = world.stub.ModelStreamInfer()
    await idle.write(request(max_tape=-1))
    assert (await idle.read()).error_message
    await until(lambda: world.engine.num_pending == 2)
    stopping = asyncio.create_task(world.server.stop(30))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await idle.read()
    assert caught.value.code() is Code.UNAVAILABLE
    gate.open(2)
    assert arrays(await unary)["tape_length"] == 8
    assert arrays((await stream.read()).infer_response)["tape_length"] == 8
    await stopping


async def test_a_used_port_is_refused(world):
    settings = Settings(backend="fake", grpc_port=int((await world.server.start()).rpartition(":")[2]))
    second = GrpcServer(DataPlane(world.engine, settings), world.metrics, settings)
    with pytest.raises(RuntimeError, match="bind"):
        await second.start()
