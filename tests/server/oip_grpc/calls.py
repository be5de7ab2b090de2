"""A gRPC server over the fake backend, in this process, and requests to it: what the tests of gRPC share."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.backends.fake import FAMILY, SIDE_PX, fake_manifest
from server.dataplane import DataPlane
from server.engine import build_engine
from server.metrics import Metrics
from server.oip_grpc import GrpcServer
from server.settings import Settings
from tests.server.oip.calls import pixels

Code = grpc.StatusCode
FLOPS = fake_manifest().flops
SHAPE = [1, SIDE_PX, SIDE_PX, 3]
BODY = pixels().tobytes()


class World:
    """A server, its engine and metrics, and a stub of it."""

    def __init__(self, engine, metrics, server, address, channel):
        self.engine, self.metrics, self.server, self.channel = engine, metrics, server, channel
        self.address = address
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def flops_run(self):
        return sum(self.value("adatape_flops_total", model=FAMILY, kind=k) for k in ("useful", "padding", "wasted"))


@asynccontextmanager
async def serving(**overrides):
    settings = Settings(backend="fake", grpc_port=0, **overrides)
    metrics = Metrics()
    engine = build_engine(settings, metrics)
    await engine.start()
    server = GrpcServer(DataPlane(engine, settings), metrics, settings)
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield World(engine, metrics, server, address, channel)
    await server.stop(1.0)
    await engine.drain(1.0)


def parameter(value):
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def tensor(name="image", datatype="UINT8", shape=SHAPE, **fields):
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **fields)


def request(*inputs, raw=(BODY,), outputs=(), model=FAMILY, version="", name="", **parameters):
    message = pb.ModelInferRequest(
        model_name=model, model_version=version, id=name, inputs=inputs or [tensor()], raw_input_contents=raw
    )
    for output, settings in dict(outputs).items():
        message.outputs.add(name=output, parameters={key: parameter(value) for key, value in settings.items()})
    for key, value in parameters.items():
        message.parameters[key].CopyFrom(parameter(value))
    return message


def arrays(response):
    """Return the outputs by name."""
    dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
    return {
        output.name: np.frombuffer(raw, dtypes[output.datatype]).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


async def refused(world, code, *args, stub="ModelInfer", **options):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(world.stub, stub)(*args, **options)
    assert caught.value.code() is code, caught.value
    return caught.value


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for comes over a socket
            await asyncio.sleep(0)
