"""Bytes that are no message are the caller's mistake: they are refused as such, without a log line."""

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from server.backends.fake import FAMILY
from tests.server.oip_grpc.calls import serving

SERVICE = "/inference.GRPCInferenceService/"
JUNK = b"\xff\xff\xff"


@pytest.mark.parametrize("name", ["ModelInfer", "ServerLive", "RepositoryIndex"])
async def test_a_unary_call_is_refused(caplog, name):
    async with serving() as world:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.channel.unary_unary(SERVICE + name)(JUNK)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"message; got 3 bytes that are none; expected {name}Request"
    assert not caplog.records


async def test_a_stream_goes_on_after_it():
    async with serving() as world:
        stream = world.channel.stream_stream(SERVICE + "ModelStreamInfer")()
        await stream.write(JUNK)
        await stream.write(pb.ModelInferRequest(model_name="nobody", id="x").SerializeToString())
        await stream.done_writing()
        answers = [pb.ModelStreamInferResponse.FromString(data) async for data in stream]
        assert sorted(answer.infer_response.id for answer in answers) == ["", "x"]
        assert any("3 bytes that are none" in answer.error_message for answer in answers)
        assert world.value("adatape_requests_total", model="none", protocol="oip_grpc", outcome="bad_request") == 1
        assert FAMILY in world.engine.repository.families()
