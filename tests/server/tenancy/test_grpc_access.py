"""The same rules over gRPC: keys in the metadata, UNAUTHENTICATED and PERMISSION_DENIED."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from server.backends.fake import FAMILY, SIDE_PX
from server.tenancy import KeyRing
from tests.server.oip.calls import pixels
from tests.server.oip_grpc.calls import serving
from tests.server.tenancy.tenants import ACME, ADMIN, STRANGER, access

Code = grpc.StatusCode


def shown(key, name="x-api-key"):
    return ((name, key),)


def infer_request():
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, SIDE_PX, SIDE_PX, 3])
    return pb.ModelInferRequest(model_name=FAMILY, inputs=[tensor], raw_input_contents=[pixels().tobytes()])


async def code_of(rpc):
    assert "adk_" not in (await rpc.details() or "")
    return await rpc.code()


@pytest.fixture
async def world(tmp_path):
    async with serving(**access(tmp_path)) as world:
        yield world


@pytest.mark.parametrize("metadata", [shown(ACME), shown(f"Bearer {ACME}", "authorization")])
async def test_a_key_opens_inference(world, metadata):
    assert await code_of(world.stub.ModelInfer(infer_request(), metadata=metadata)) is Code.OK
    assert await code_of(world.stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=metadata)) is Code.OK


@pytest.mark.parametrize("metadata", [(), shown(STRANGER), shown("Basic bWU6bWU=", "authorization")])
async def test_strangers_are_refused_and_counted(world, metadata):
    assert await code_of(world.stub.ModelInfer(infer_request(), metadata=metadata)) is Code.UNAUTHENTICATED
    assert await code_of(world.stub.ServerMetadata(pb.ServerMetadataRequest(), metadata=metadata)) is (
        Code.UNAUTHENTICATED
    )
    assert world.value("adatape_errors_total", reason="unauthenticated") == 2


async def test_a_stream_is_refused_as_a_whole(world):
    async def requests():
        yield infer_request()

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        [_ async for _ in world.stub.ModelStreamInfer(requests(), metadata=shown(STRANGER))]
    assert failure.value.code() is Code.UNAUTHENTICATED


async def test_a_withdrawn_key_ends_an_open_stream(world):
    answered, messages = asyncio.Event(), []

    async def requests():
        for number in range(2):
            if number == 1:
                await answered.wait()
                world.engine.tenancy.authenticator.ring = KeyRing()
            yield infer_request()

    async for answer in world.stub.ModelStreamInfer(requests(), metadata=shown(ACME)):
        messages.append(answer.error_message.split(";")[:2])
        answered.set()
    assert messages == [[""], ["API key", " got one that is not known"]]


@pytest.mark.parametrize("load", [True, False])
async def test_loading_needs_an_admins_key(world, load):
    if load:
        rpc, request = world.stub.RepositoryModelLoad, pb.RepositoryModelLoadRequest(model_name=FAMILY)
    else:
        rpc, request = world.stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name=FAMILY)
    assert await code_of(rpc(request)) is Code.UNAUTHENTICATED
    assert await code_of(rpc(request, metadata=shown(ACME))) is Code.PERMISSION_DENIED
    assert await code_of(rpc(request, metadata=shown(ADMIN))) is Code.OK


@pytest.mark.parametrize("name", ["x-api-key", "authorization"])
async def test_a_key_is_shown_once(world, name):
    form = "Bearer {}" if name == "authorization" else "{}"
    for keys in ((ACME, ADMIN), (ADMIN, ACME), (ADMIN, ADMIN)):
        metadata = tuple((name, form.format(key)) for key in keys)
        request = pb.RepositoryModelUnloadRequest(model_name=FAMILY)
        assert await code_of(world.stub.RepositoryModelUnload(request, metadata=metadata)) is Code.UNAUTHENTICATED


async def test_an_admin_port_takes_loading_off_grpc(tmp_path):
    async with serving(**access(tmp_path, admin_port=1)) as world:
        request = pb.RepositoryModelLoadRequest(model_name=FAMILY)
        assert await code_of(world.stub.RepositoryModelLoad(request, metadata=shown(ADMIN))) is Code.PERMISSION_DENIED


async def test_health_needs_no_key(world):
    assert (await world.stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await world.stub.ServerReady(pb.ServerReadyRequest())).ready
    health = health_pb2_grpc.HealthStub(world.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
