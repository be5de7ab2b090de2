"""The limits of a gRPC client, against real hostile clients that speak HTTP/2 by hand."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from math import inf

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from server.engine.drain_gate import DrainGate
from server.metrics import Metrics
from server.oip_grpc.rpc_timeouts import REASONS, RpcTimeouts
from server.oip_grpc.server import _options
from server.settings import Settings
from tests.server.oip_grpc import raw_http2
from tests.server.oip_grpc.calls import BODY, SHAPE, Code, arrays, refused, request, serving, tensor, until
from tests.server.oip_grpc.raw_http2 import CONTINUATION, DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, frame

SHORT_S = 0.4
NAGGING_S = 0.05
INFER, STREAM = "ModelInfer", "ModelStreamInfer"


@asynccontextmanager
async def attacked(settings=b"", **limits):
    """Give a server with short limits and one hostile connection to it."""
    async with serving(**limits) as world:
        raw = await Raw.connect(world.address, settings)
        try:
            yield world, raw
        finally:
            await raw.close()


def ended(world):
    values = world.metrics.rpcs_ended.values
    assert {reason for (reason,) in values} == set(REASONS)
    return {reason: count for (reason,), count in values.items() if count}


async def nag(raw, data):
    """Send the same again and again until the connection ends or somebody has seen enough."""
    with suppress(ConnectionError):
        while not raw.is_over.is_set():
            raw.send(data)
            await asyncio.sleep(NAGGING_S)


@asynccontextmanager
async def nagging(raw, data):
    task = asyncio.create_task(nag(raw, data))
    try:
        yield
    finally:
        task.cancel()


def num_streams():
    """Return how many streams of inferences wait for a request."""
    return sum(task.get_coro().__qualname__ == "StoppableStream._next" for task in asyncio.all_tasks())


async def is_served(world):
    """Say whether an honest caller is answered all the while."""
    return arrays(await world.stub.ModelInfer(request(max_tape=3)))["tape_length"] == 3


# --- Time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [INFER, "ServerLive", "RepositoryIndex", "../grpc.health.v1.Health/Check"])
async def test_a_message_that_drips_is_refused_in_time(method, monkeypatch):
    service, _, name = method.rpartition("/")
    async with attacked(body_timeout_s=SHORT_S) as (world, raw):
        if service:
            monkeypatch.setattr(raw_http2, "SERVICE", service.removeprefix("..") + "/")
        raw.ask(name, 1)
        raw.send(frame(DATA, 0, 1, raw_http2.message(b"", length=1000)))
        async with nagging(raw, frame(DATA, 0, 1, b"x")):
            trailers = await raw.until(HEADERS, END_STREAM)
        assert b"grpc-status\x014" in trailers
        assert f"the request; got no end of it after {SHORT_S} s; expected all of it by then".encode() in trailers
        assert ended(world) == {"slow_body": 1}
        assert world.value("adatape_errors_total", reason="too_slow") == 1
        assert await is_served(world)


async def test_a_request_without_a_message_is_refused():
    async with attacked() as (world, raw):
        raw.ask(INFER, 1)
        raw.send(frame(DATA, END_STREAM, 1))
        assert b"request; got no message; expected one" in await raw.until(HEADERS, END_STREAM)
        assert await is_served(world)


async def test_a_head_that_does_not_end_leaves_its_connection_idle():
    async with attacked(idle_timeout_s=SHORT_S) as (world, raw):
        raw.send(frame(HEADERS, 0, 1, raw_http2.head(f"{raw_http2.SERVICE}{INFER}")))
        async with nagging(raw, frame(CONTINUATION, 0, 1, raw_http2.field("x", "y"))):
            await raw.until_over()
        assert await is_served(world)


async def test_an_idle_connection_is_closed():
    async with attacked(idle_timeout_s=SHORT_S) as (_, raw):
        assert b"connection idle" in await raw.until(GOAWAY)
        await raw.until_over()


async def test_a_client_that_answers_no_ping_is_gone():
    async with attacked(idle_timeout_s=1.0, body_timeout_s=1.0, stream_timeout_s=inf) as (_, raw):
        raw.is_rude = True
        raw.ask(STREAM, 1)
        await raw.until_over()
        await until(lambda: num_streams() == 0)


async def test_a_stream_without_requests_is_ended():
    async with attacked(stream_timeout_s=SHORT_S) as (world, raw):
        raw.ask(STREAM, 1)
        raw.send(frame(DATA, 0, 1, raw_http2.message(b"", length=1000)))
        async with nagging(raw, frame(DATA, 0, 1, b"x")):
            trailers = await raw.until(HEADERS, END_STREAM)
        assert f"the stream; got no whole request after {SHORT_S} s".encode() in trailers
        assert ended(world) == {"idle": 1}


async def test_a_stream_lives_as_long_as_requests_come():
    async with serving(stream_timeout_s=SHORT_S) as world:
        stream = world.stub.ModelStreamInfer()
        for _ in range(4):
            await stream.write(request())
            assert not (await stream.read()).error_message
            await asyncio.sleep(SHORT_S / 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_reflection_is_held_to_the_same_limit():
    async with serving(stream_timeout_s=SHORT_S) as world:
        stream = reflection_pb2_grpc.ServerReflectionStub(world.channel).ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await stream.read()).list_services_response.service
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is Code.DEADLINE_EXCEEDED


async def test_health_is_watched_for_as_long_as_one_likes():
    async with serving(stream_timeout_s=SHORT_S, body_timeout_s=SHORT_S) as world:
        watch = health_pb2_grpc.HealthStub(world.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.sleep(3 * SHORT_S)
        assert not watch.done()


async def test_a_stream_whose_answers_nobody_takes_is_let_go():
    closed_window = raw_http2.setting(raw_http2.INITIAL_WINDOW_SIZE, 0)
    async with attacked(closed_window, body_timeout_s=SHORT_S) as (world, raw):
        raw.ask(STREAM, 1)
        asked = request(tensor(shape=[16, *SHAPE[1:]]), raw=[16 * BODY]).SerializeToString()
        async with nagging(raw, 10 * frame(DATA, 0, 1, raw_http2.message(asked))):
            await until(lambda: ended(world) == {"slow_reply": 1})
        await until(lambda: num_streams() == 0)
        assert await is_served(world)


async def test_a_connection_that_reads_nothing_is_closed():
    async with attacked(idle_timeout_s=1.0, body_timeout_s=1.0) as (world, raw):
        raw.writer.transport.pause_reading()
        raw.ask(STREAM, 1)
        for stream in (0, 1):
            raw.send(frame(raw_http2.WINDOW_UPDATE, 0, stream, b"\x3f\xff\xff\xff"))
        asked = raw_http2.message(request().SerializeToString())
        async with nagging(raw, frame(DATA, 0, 1, asked) * 20):
            await until(raw.writer.transport.is_closing)
        assert await is_served(world)


async def test_a_connection_has_an_age():
    async with attacked(max_connection_age_s=SHORT_S, body_timeout_s=SHORT_S) as (world, raw):
        raw.ask(STREAM, 1)
        await raw.until(GOAWAY)
        await raw.until_over()
        for _ in range(5):
            assert await is_served(world)
            await asyncio.sleep(SHORT_S / 2)


# --- Size ------------------------------------------------------------------------------------


async def test_metadata_beyond_the_limit_is_refused_and_not_by_chance():
    async with serving(max_header_bytes=8000) as world:
        fits, grows = (("x-a", "a" * 7000),), (("x-a", "a" * 8000),)
        for _ in range(20):
            await world.stub.ModelInfer(request(), metadata=fits)
            error = await refused(world, Code.RESOURCE_EXHAUSTED, request(), metadata=grows)
            assert "metadata" in error.details()


async def test_a_message_that_says_it_is_too_large_is_refused_before_it_comes():
    async with attacked(max_body_bytes=1000) as (_, raw):
        raw.ask(INFER, 1)
        raw.send(frame(DATA, 0, 1, raw_http2.message(b"", length=1 << 31)))
        assert b"grpc-status\x018" in await raw.until(HEADERS, END_STREAM)


# --- Number ----------------------------------------------------------------------------------


async def test_streams_of_one_connection_are_bounded():
    async with attacked(max_streams=3) as (world, raw):
        for stream in (1, 3, 5, 7):
            raw.ask(STREAM, stream)
        await raw.until(RST_STREAM)
        assert [stream for stream, _ in raw.of(RST_STREAM)] == [7]
        assert num_streams() == 3
        assert await is_served(world)


async def test_a_burst_over_one_connection_fits():
    async with serving() as world:
        answers = await asyncio.gather(*(world.stub.ModelInfer(request()) for _ in range(1000)))
        assert len(answers) == 1000


async def test_connections_are_bounded_all_together():
    async with attacked(max_connections=2) as (world, _):
        assert await is_served(world)
        third = Raw(*await asyncio.open_connection(*world.address.rsplit(":", 1)))
        await third.until_over()
        await third.close()
        assert await is_served(world)


async def test_rpcs_are_bounded_all_together():
    async with attacked(max_connections=2) as (world, raw):
        raw.ask(STREAM, 1)
        raw.ask(STREAM, 3)
        await until(lambda: num_streams() == 2)
        error = await refused(world, Code.RESOURCE_EXHAUSTED, request())
        assert "oncurrent" in error.details()


async def test_a_client_with_too_many_connections_loses_the_newest():
    async with attacked(max_connections_per_client=2) as (world, first):
        assert await is_served(world)
        late = [await Raw.connect(world.address) for _ in range(3)]
        async with asyncio.timeout(20):
            await asyncio.gather(*(each.is_over.wait() for each in late))
        await until(lambda: ended(world) == {"too_many_connections": 3})
        assert not first.is_over.is_set()
        assert await is_served(world)
        for each in late:
            await each.close()


def test_no_limit_is_a_number_that_grpc_takes():
    options = dict(_options(Settings(body_timeout_s=inf, idle_timeout_s=inf, max_connection_age_s=inf)))
    assert options["grpc.max_connection_age_ms"] == 2**31 - 1


async def test_a_stream_whose_client_has_gone_ends_without_being_a_fault():
    class Gone:
        async def write(self, answer):
            raise grpc.aio.InternalError("Failed execute_batch")

    metrics = Metrics()
    timeouts = RpcTimeouts(Settings(backend="fake"), metrics, DrainGate(time.monotonic))

    async def serve():
        write = timeouts.writer(Gone())
        async with asyncio.TaskGroup() as group:
            group.create_task(write("an answer"))
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(serve())
    assert set(metrics.rpcs_ended.values.values()) == {0}
