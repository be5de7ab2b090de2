"""Limits of a gRPC message, and the check of its caller: both come before anything is built or even read."""

import asyncio
import gzip
from contextlib import asynccontextmanager
from math import inf

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from loadtest.hostile.messages.rpc import EMPTY, SERVICE, crowded_head, distinct, many, part, tensor
from loadtest.hostile.table import MessageContext
from server.backends.fake import FAMILY
from server.dataplane import DataPlane
from server.engine import build_engine
from server.errors import BadRequest, PayloadTooLarge
from server.metrics import Metrics
from server.oip_grpc.message_reader import build_message_reader
from server.settings import Settings
from tests.server.oip_grpc.calls import BODY, SHAPE, Code, arrays, request, serving, until
from tests.server.oip_grpc.calls import tensor as honest
from tests.server.oip_grpc.raw_http2 import END_STREAM, HEADERS, Raw
from tests.server.tenancy.tenants import access
from tests.server.test_event_loop import MAX_HOLD_S, NUM_TRIES, Pulse

MIB = 1 << 20
NAME = part(1, FAMILY.encode())
HOSTILE = {
    "inputs": NAME + EMPTY * 100_000,
    "more inputs": NAME + EMPTY * MIB,
    "as many inputs as may be": NAME + EMPTY * 450,
    "outputs": NAME + many(2 * MIB, b"\x32\x00"),
    "raw contents": NAME + many(2 * MIB, b"\x3a\x00"),
    "parameters": NAME + distinct(150_000),
    "parameters of an input": NAME + part(5, distinct(150_000)),
    "dimensions": NAME + tensor(shape=bytes(2 * MIB)),
    "as many dimensions as may be": NAME + tensor(shape=bytes(490_000)),
    "numbers one by one": NAME + tensor(many(2 * MIB, b"\x20\x01")),
    "strings": NAME + tensor(many(2 * MIB, b"\x42\x00")),
    "contents again and again": NAME + part(5, many(2 * MIB, part(5, b""))),
    "unknown fields": NAME + many(2 * MIB, b"\xf8\x06\x00"),
    "gzip": gzip.compress(EMPTY * MIB),
}


def settings(**overrides):
    return Settings(backend="fake", **overrides)


def intake(message=pb.ModelInferRequest, **overrides):
    """Return a reader of messages, over an engine that is not started."""
    chosen = settings(**overrides)
    plane = DataPlane(build_engine(chosen, Metrics()), chosen)
    return build_message_reader(message, plane, chosen)


async def answer_of(world, data, rpc="ModelInfer", **options):
    """Send bytes as a message; return the status code and the message that comes back."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.channel.unary_unary(SERVICE + rpc)(data, **options)
    return caught.value.code(), caught.value.details()


# --- What a message costs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_message_holds_up_the_event_loop(name):
    holds_s = []
    async with serving() as world:
        await answer_of(world, b"")
        for _ in range(NUM_TRIES):
            async with Pulse() as pulse:
                code, _ = await answer_of(world, HOSTILE[name])
            holds_s.append(pulse.longest_s)
            if pulse.longest_s <= MAX_HOLD_S:
                break
    assert code in {Code.RESOURCE_EXHAUSTED, Code.INVALID_ARGUMENT}
    assert min(holds_s) <= MAX_HOLD_S, holds_s


@pytest.mark.parametrize("rpc", ["ServerLive", "ModelMetadata", "RepositoryIndex", "RepositoryModelLoad"])
async def test_every_method_counts(rpc):
    async with serving() as world:
        code, message = await answer_of(world, b"\xf8\x06\x00" * 5000, rpc)
    assert code is Code.RESOURCE_EXHAUSTED
    assert message.startswith("fields in a message; got more than 4096; expected at most 4096")


async def test_a_stream_goes_on_after_one_too_many():
    async with serving() as world:
        stream = world.channel.stream_stream(SERVICE + "ModelStreamInfer")()
        for data in (EMPTY * 4000, request(name="x").SerializeToString()):
            await stream.write(data)
        await stream.done_writing()
        answers = [pb.ModelStreamInferResponse.FromString(data) async for data in stream]
    assert sorted(answer.infer_response.id for answer in answers) == ["", "x"]
    assert sum("fields in a message" in answer.error_message for answer in answers) == 1


def test_limits_are_settings():
    loose, strict = intake(max_message_fields=10**6), intake(max_message_fields=40, max_json_values=99)
    loose.check(EMPTY * 100_000)
    strict.check(EMPTY * 5)
    with pytest.raises(PayloadTooLarge, match="more than 40; expected at most 40, where an input"):
        strict.check(EMPTY * 6)
    strict.check(tensor(part(4, b"\x01" * 95), shape=b"\x01" * 4))
    strict.check(part(7, bytes(MIB)))
    with pytest.raises(PayloadTooLarge, match="values in a message; got 100; expected at most 99"):
        strict.check(tensor(part(4, b"\x01" * 99), shape=b"\x01"))
    with pytest.raises(PayloadTooLarge, match="where 25 bytes of text are one"):
        strict.check(part(1, b"a" * 2500))


def test_numbers_count_as_many_as_they_are():
    strict = intake(max_json_values=1000)
    strict.check(tensor(part(2, (b"\xff" * 9 + b"\x01") * 990)))
    strict.check(tensor(part(6, bytes(3960))))
    strict.check(tensor(part(7, bytes(7920))))
    with pytest.raises(PayloadTooLarge):
        strict.check(tensor(part(6, bytes(4040))))


@given(
    shape=st.lists(st.integers(0, 2**40), max_size=5),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20),
    texts=st.lists(st.binary(max_size=20), max_size=5),
    names=st.dictionaries(st.text(max_size=5), st.one_of(st.booleans(), st.integers(0, 99), st.text(max_size=200))),
    cut=st.integers(1, 30),
)
def test_every_message_is_walked_as_it_is_parsed(shape, numbers, texts, names, cut):
    message = request(honest(shape=shape), honest(), raw=texts, **{f"p{key}": value for key, value in names.items()})
    message.inputs[0].contents.int_contents.extend(numbers)
    message.inputs[0].contents.bytes_contents.extend(texts)
    data = message.SerializeToString() + part(99, bytes(2000))
    reader = intake()
    reader.check(data)
    with pytest.raises(BadRequest, match="bytes that are none; expected ModelInferRequest"):
        reader.check(data[:-cut])


@pytest.mark.parametrize("end", [b"\x7b\x7c", b"\xff" * 11, b"\x0a\xff\xff\xff\x7f", b"\x0d\x00"])
def test_what_is_no_field_is_no_message(end):
    with pytest.raises(BadRequest, match="bytes that are none"):
        intake().check(part(7, bytes(2000)) + end)


# --- Compression -------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate, grpc.Compression.NoCompression])
async def test_compressed_messages_are_answered(coding):
    async with serving() as world:
        batch = request(honest(shape=[16, *SHAPE[1:]]), raw=[16 * BODY])
        answer = await world.stub.ModelInfer(batch, compression=coding)
        assert len(arrays(answer)["tape_length"]) == 16


async def test_what_unfolds_into_too_much_is_refused():
    async with serving(max_message_bytes=MIB) as world:
        options = {"compression": grpc.Compression.Gzip}
        code, message = await answer_of(world, part(7, bytes(2 * MIB)), **options)
        assert code is Code.RESOURCE_EXHAUSTED
        assert f"more than {MIB} bytes when decompressed" in message


# --- Who sends it ------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryModelLoad"])
async def test_nothing_is_read_from_a_stranger(tmp_path, rpc):
    async with serving(**access(tmp_path)) as world:
        raw = await Raw.connect(world.address)
        raw.ask(rpc, 1)
        assert b"grpc-status\x0216" in await raw.until(HEADERS, END_STREAM)
        await raw.close()


# --- What all of them hold ---------------------------------------------------------------------


@asynccontextmanager
async def one_waiting(world, monkeypatch):
    """Give a server that is busy with a large message for as long as the block lasts."""
    may_end, answer = asyncio.Event(), world.engine.infer

    async def wait(asked):
        await may_end.wait()
        return await answer(asked)

    monkeypatch.setattr(world.engine, "infer", wait)
    first = asyncio.ensure_future(world.stub.ModelInfer(large()))
    bodies = world.server._plane.body_memory
    await until(lambda: bodies.held_bytes > 0)
    yield bodies
    may_end.set()
    await first
    assert bodies.held_bytes == 0


def large():
    return request(honest(shape=[16, *SHAPE[1:]]), raw=[16 * BODY], content_type="x" * 90_000)


async def test_large_messages_are_bounded_together(monkeypatch):
    async with serving(max_bodies_bytes=50_000) as world, one_waiting(world, monkeypatch):
        code, message = await answer_of(world, large().SerializeToString())
        assert code is Code.RESOURCE_EXHAUSTED
        assert message.startswith("bytes of large bodies at once; got")


async def test_all_of_a_streams_messages_count(monkeypatch):
    async with serving(max_bodies_bytes=30_000) as world, one_waiting(world, monkeypatch):
        stream = world.stub.ModelStreamInfer()
        await stream.write(request(content_type="x" * 9000))
        assert "bytes of large bodies at once" in (await stream.read()).error_message


# --- Heads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2000, 200_000])
async def test_a_head_of_many_frames_is_bounded(count, caplog):
    entries = crowded_head(*[("x", "")] * count)(MessageContext(FAMILY))
    async with serving() as world:
        host, _, port = world.address.rpartition(":")
        async with Pulse() as pulse:
            answer = await asyncio.to_thread(entries.run, (host, int(port)))
        assert "status 2" in answer or "status 8" in answer  # ours, or the library's for what it would say of it
        assert pulse.longest_s <= MAX_HOLD_S
        assert arrays(await world.stub.ModelInfer(request(max_tape=3)))["tape_length"] == 3
    assert not caplog.records


async def test_as_much_metadata_as_fits_is_taken():
    async with serving() as world:
        assert await world.stub.ModelInfer(request(), metadata=[(f"x-{index}", "") for index in range(700)])


async def test_one_task_may_call_again_and_again():
    async with serving(max_header_bytes=1024, max_bodies_bytes=inf) as world:
        for _ in range(50):
            assert await world.stub.ModelInfer(request(), metadata=[("x-a", "1")])
