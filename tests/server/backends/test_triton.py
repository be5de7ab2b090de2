"""The gateway's backend against small Tritons of our own making, which can be told to misbehave."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import triton_to_np_dtype

from server.backends.base import warm
from server.backends.fake import BUCKETS, SIDE_PX, TAPE_CAPACITY, FakeModel, fake_manifest
from server.backends.triton import TritonBackend
from server.backends.triton.address import TritonAddress
from server.backends.triton.pool import TritonPool
from server.engine import build_engine
from server.engine.engine import Engine
from server.errors import BackendFailed, ModelNotReady, Unavailable
from server.metrics import Metrics
from server.models.repository import Repository
from server.settings import Settings

MANIFEST = fake_manifest()
PROBE_EVERY_S = 0.02
FAILED = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN]
DTYPES = {"float32": "FP32", "int32": "INT32", "uint8": "UINT8"}


class SmallTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves the fake family's graphs, unless `trouble` ends a call first."""

    def __init__(self) -> None:
        self.is_ready = True
        self.trouble: Callable[[grpc.ServicerContext], None] = lambda _: None
        self.asked: list[tuple[str, str, tuple[str, ...]]] = []
        self._model = FakeModel()
        self.port = 0

    def ServerReady(self, request, context):  # noqa: N802 - gRPC's name
        return pb.ServerReadyResponse(ready=self.is_ready)

    def ModelInfer(self, request, context):  # noqa: N802 - gRPC's name
        feeds = {
            tensor.name: np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        self.asked.append((request.model_name, request.model_version, tuple(feeds)))
        self.trouble(context)
        outputs = self._run(request.model_name, feeds)
        response = pb.ModelInferResponse(model_name=request.model_name)
        for wanted in request.outputs:
            array = outputs[wanted.name]
            response.outputs.add(name=wanted.name, datatype=DTYPES[array.dtype.name], shape=array.shape)
            response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())
        return response

    def _run(self, name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if name == MANIFEST.reader.name:
            reading = self._model.read(feeds["image"], feeds["max_tape"])
            fields = (
                "hidden_BSD",
                "tape_BND",
                "tape_length_B1",
                "tape_length_wanted_B1",
                "picks_BNK",
                "pick_weights_BNK",
            )
            return {field.rpartition("_")[0]: getattr(reading, field) for field in fields}
        hidden_BSD = feeds["hidden"]
        tape_BTD = feeds.get("tape", hidden_BSD[:, :0])
        length_B1 = feeds.get("tape_length", np.zeros((len(hidden_BSD), 1), np.int32))
        return {"logits": self._model.run_trunk(hidden_BSD, tape_BTD, length_B1)}


class Host:
    """A SmallTriton that listens; it can be stopped and started again at the same port."""

    def __init__(self) -> None:
        self.triton = SmallTriton()
        self._server: grpc.Server | None = None
        self.port = 0

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.triton, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
            self._server = None


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    made = [Host(), Host()]
    for host in made:
        host.start()
    yield made
    for host in made:
        host.stop()


@pytest.fixture
def open_pool() -> Iterator[Callable[..., TritonPool]]:
    with ExitStack() as stack:

        def open_one(*hosts: Host, timeout_s: float = 5.0, probe_every_s: float = PROBE_EVERY_S) -> TritonPool:
            pool = TritonPool([TritonAddress(host.name) for host in hosts], timeout_s, probe_every_s=probe_every_s)
            stack.callback(pool.close)
            return pool

        yield open_one


def until(is_true: Callable[[], bool]) -> None:
    started_s = time.monotonic()
    while not is_true():
        assert time.monotonic() - started_s < 10
        threading.Event().wait(0.005)


def ask(pool: TritonPool, cap: int = 3) -> np.ndarray:
    """Read one image through a pool; return its tape length."""
    feeds = {"image": np.full((1, SIDE_PX, SIDE_PX, 3), 255, np.uint8), "max_tape": np.full((1, 1), cap, np.int32)}
    (length_B1,) = pool.run(MANIFEST.reader.name, "1", feeds, ["tape_length"])
    return length_B1


def abort(code: grpc.StatusCode) -> Callable[[grpc.ServicerContext], None]:
    return lambda context: context.abort(code, "on purpose")


def test_the_models_answers_are_those_of_a_local_one(hosts: list[Host]):
    backend = TritonBackend([hosts[0].name], timeout_s=5)
    model, local = backend.load(MANIFEST), FakeModel()
    images_BHWC = np.random.default_rng(0).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    caps_B1 = np.array([[1], [5], [TAPE_CAPACITY]], np.int32)
    got, wanted = model.read(images_BHWC, caps_B1), local.read(images_BHWC, caps_B1)
    for field in type(got).__dataclass_fields__:
        np.testing.assert_array_equal(getattr(got, field), getattr(wanted, field))
        assert getattr(got, field).dtype == getattr(wanted, field).dtype
    for bucket in BUCKETS:
        lengths_B1 = np.full((3, 1), bucket, np.int32)
        feeds = (wanted.hidden_BSD, wanted.tape_BND[:, :bucket], lengths_B1)
        np.testing.assert_array_equal(model.run_trunk(*feeds), local.run_trunk(*feeds))
    backend.close()


def test_each_bucket_has_its_graph_in_the_manifests_version(hosts: list[Host]):
    backend = TritonBackend([hosts[0].name], timeout_s=5)
    warm(backend.load(fake_manifest(version="7")), MANIFEST)
    backend.close()
    asked = hosts[0].triton.asked
    assert {version for _, version, _ in asked} == {"7"}
    trunks = [(name, feeds) for name, _, feeds in asked if name != MANIFEST.reader.name]
    assert [name for name, _ in trunks] == [spec.name for spec in MANIFEST.trunks]
    assert trunks[0][1] == ("hidden",)
    assert {feeds for _, feeds in trunks[1:]} == {("hidden", "tape", "tape_length")}


def test_the_least_loaded_is_asked(hosts: list[Host], open_pool):
    pool, is_free, has_begun = open_pool(*hosts), threading.Event(), threading.Event()

    def wait(_):
        has_begun.set()
        is_free.wait(5)

    hosts[0].triton.trouble = wait
    busy = threading.Thread(target=ask, args=(pool,))
    busy.start()
    has_begun.wait(5)
    for _ in range(3):
        ask(pool)
    is_free.set()
    busy.join()
    assert (len(hosts[0].triton.asked), len(hosts[1].triton.asked)) == (1, 3)


def test_a_name_that_leads_to_several_asks_each_in_turn(hosts: list[Host]):
    pool = TritonPool([TritonAddress(f"ipv4:{hosts[0].name},{hosts[1].name}")], 5.0)
    until(lambda: ask(pool) == [[3]] and all(host.triton.asked for host in hosts))
    for host in hosts:
        host.triton.asked.clear()
    for _ in range(6):
        ask(pool)
    pool.close()
    assert [len(host.triton.asked) for host in hosts] == [3, 3]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
def test_what_one_does_not_take_another_does(hosts: list[Host], open_pool, code: grpc.StatusCode):
    hosts[0].triton.trouble = abort(code)
    assert ask(open_pool(*hosts)) == [[3]]
    assert (len(hosts[0].triton.asked), len(hosts[1].triton.asked)) == (1, 1)


def test_a_triton_in_trouble_is_left_alone_until_a_probe_finds_it_ready(hosts: list[Host], open_pool):
    pool = open_pool(*hosts)
    hosts[0].triton.is_ready = False
    hosts[0].triton.trouble = abort(grpc.StatusCode.UNAVAILABLE)
    for _ in range(5):
        ask(pool)
    num_asked = len(hosts[0].triton.asked)
    assert num_asked <= 1
    hosts[0].triton.is_ready, hosts[0].triton.trouble = True, lambda _: None
    until(lambda: ask(pool) == [[3]] and len(hosts[0].triton.asked) > num_asked)


def test_when_all_are_gone_calls_are_refused_at_once_with_a_time_to_retry(hosts: list[Host], open_pool):
    pool = open_pool(*hosts)
    for host in hosts:
        host.stop()
    with pytest.raises(Unavailable) as first:
        ask(pool)
    started_s = time.monotonic()
    with pytest.raises(Unavailable, match="none ready of") as second:
        ask(pool)
    assert time.monotonic() - started_s < 0.1
    assert first.value.retry_after_s == second.value.retry_after_s == 1.0
    assert not pool.is_up


def test_readiness_follows_and_calls_come_back_by_themselves(hosts: list[Host], open_pool):
    pool = open_pool(hosts[0])
    assert pool.is_up
    hosts[0].stop()
    until(lambda: not pool.is_up)
    hosts[0].start()
    until(lambda: pool.is_up)
    assert ask(pool) == [[3]]
    hosts[0].triton.is_ready = False
    until(lambda: not pool.is_up)


def test_a_call_without_an_answer_in_time_is_not_tried_again(hosts: list[Host], open_pool):
    is_over = threading.Event()
    for host in hosts:
        host.triton.trouble = lambda _: is_over.wait(5)
    with pytest.raises(Unavailable, match=r"no answer of 127.*; expected one within 0\.1 s") as raised:
        ask(open_pool(*hosts, timeout_s=0.1))
    is_over.set()
    assert raised.value.retry_after_s == 1.0
    assert sum(len(host.triton.asked) for host in hosts) == 1


def test_a_model_that_none_serves_is_not_ready(hosts: list[Host], open_pool):
    for host in hosts:
        host.triton.trouble = abort(grpc.StatusCode.NOT_FOUND)
    with pytest.raises(ModelNotReady, match="expected one that serves adatape_fake_reader version 1"):
        ask(open_pool(*hosts))


def test_a_call_that_is_wrong_is_not_tried_again(hosts: list[Host], open_pool):
    for host in hosts:
        host.triton.trouble = abort(grpc.StatusCode.INVALID_ARGUMENT)
    with pytest.raises(BackendFailed, match="said: on purpose"):
        ask(open_pool(*hosts))
    assert sum(len(host.triton.asked) for host in hosts) == 1


@pytest.mark.parametrize("code", FAILED)
def test_a_call_that_fails_on_two_fails(hosts: list[Host], open_pool, code: grpc.StatusCode):
    third = Host()
    third.start()
    for host in [*hosts, third]:
        host.triton.trouble = abort(code)
    with pytest.raises(BackendFailed, match="said: on purpose"):
        ask(open_pool(*hosts, third))
    third.stop()
    assert [len(host.triton.asked) for host in [*hosts, third]] == [1, 1, 0]


@pytest.mark.parametrize("code", FAILED)
def test_one_that_fails_every_call_takes_none_from_the_others(hosts: list[Host], open_pool, code: grpc.StatusCode):
    hosts[0].triton.trouble = abort(code)
    pool = open_pool(*hosts, probe_every_s=60)
    for _ in range(5):
        assert ask(pool) == [[3]]
    assert [len(host.triton.asked) for host in hosts] == [1, 5]


def test_one_that_failed_is_asked_again_once_a_probe_finds_it_ready(hosts: list[Host], open_pool):
    hosts[0].triton.trouble = abort(grpc.StatusCode.INTERNAL)
    pool = open_pool(*hosts)
    ask(pool)
    hosts[0].triton.trouble = lambda _: None
    until(lambda: ask(pool) == [[3]] and len(hosts[0].triton.asked) > 1)


def test_a_failure_leaves_the_only_one_up(hosts: list[Host], open_pool):
    pool = open_pool(hosts[0], probe_every_s=60)
    hosts[0].triton.trouble = abort(grpc.StatusCode.INTERNAL)
    with pytest.raises(BackendFailed):
        ask(pool)
    hosts[0].triton.trouble = lambda _: None
    assert ask(pool) == [[3]]


def test_a_wrong_answer_is_a_failure(hosts: list[Host], open_pool):
    feeds = {"hidden": np.zeros((1, 1, 10), np.float32)}
    with pytest.raises(BackendFailed):
        open_pool(*hosts).run(MANIFEST.trunks[0].name, "1", feeds, ["tape"])


async def test_an_engine_without_its_triton_starts_and_waits(hosts: list[Host]):
    host = hosts[0]
    host.stop()
    backend = TritonBackend([host.name], timeout_s=5)
    engine = Engine(Repository(None, builtin=[MANIFEST]), backend, Metrics(), Settings(backend="fake"))
    await engine.start()
    assert list(engine.shelf.families) == [MANIFEST.family]
    assert not engine.is_ready
    with pytest.raises(ModelNotReady, match="cannot be reached") as raised:
        engine.shelf.find(MANIFEST.family).check_ready()
    assert raised.value.retry_after_s == 1.0
    host.start()
    until(lambda: engine.is_ready)
    await engine.drain(1)
    backend.close()


def test_the_settings_choose_it(tmp_path, hosts: list[Host]):
    url = ",".join(host.name for host in hosts)
    settings = Settings(backend="triton", triton_url=url, model_repository=tmp_path)
    assert settings.max_executions == 8
    assert build_engine(settings, Metrics()).device == "none"


@pytest.mark.parametrize("url", ["", "host", "host:", ":1", "a:1,", "http://a:1", "a:1 b:2"])
def test_addresses_are_checked(url: str):
    with pytest.raises(ValueError, match="triton_url"):
        Settings(backend="triton", triton_url=url)
