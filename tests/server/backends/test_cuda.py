"""The backend of GPUs. Without one its calls run on the CPU provider: all but what CUDA itself does."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from server.backends.fake import BUCKETS, MAX_BATCH_SIZE, SIDE_PX, TAPE_CAPACITY, FakeModel, fake_manifest
from server.engine import build_engine
from server.errors import BackendFailed, OutOfMemory
from server.metrics import Metrics
from server.models.manifest import GraphFile, GraphSpec
from server.settings import Settings

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from onnxruntime.capi import onnxruntime_pybind11_state as status

from server.backends.cuda import CudaBackend, CudaOrCpuBackend, Devices
from server.backends.cuda.backend import _record
from server.backends.cuda.devices import Device, DeviceMissing
from server.backends.cuda.trunks import sizes_up_to
from server.backends.ort import OrtBackend, is_cuda_offered
from tests.server.backends import tiny_graphs

KINDS = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
FAKE = FakeModel()
WITHOUT_CUDA = pytest.mark.skipif(is_cuda_offered(), reason="this onnxruntime offers CUDA")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    tiny_graphs.save_reader(folder / "reader.onnx")
    tiny_graphs.save_trunk(folder / "trunk.onnx")
    for bucket in BUCKETS:
        tiny_graphs.save_static_trunk(folder / f"trunk_{bucket}.onnx", bucket)
    return folder


def graph(name):
    return GraphSpec(name=name, files=[GraphFile(path=f"{name}.onnx", sha256="0" * 64, size_bytes=0)])


MANIFEST = fake_manifest().model_copy(
    update={
        "reader": graph("reader"),
        "trunk": graph("trunk"),
        "trunks": [graph(f"trunk_{bucket}") for bucket in BUCKETS],
    }
)


def load(root, kind="cpu", numbers=(0,), **options):
    return CudaBackend(root, Devices(numbers, kind), num_threads=1, **options).load(MANIFEST)


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), np.uint8)


def check(model, batch_BHWC, cap):
    """Hold a model against the fake, whose arithmetic its graphs are."""
    cap_B1 = np.full((len(batch_BHWC), 1), cap, np.int32)
    reading, expected = (one.read(batch_BHWC, cap_B1) for one in (model, FAKE))
    for field in expected.__dataclass_fields__:
        np.testing.assert_allclose(getattr(reading, field), getattr(expected, field), rtol=1e-6, err_msg=field)
    for bucket in (each for each in BUCKETS if each >= reading.tape_length_B1.max()):
        arguments = (reading.hidden_BSD, reading.tape_BND[:, :bucket], reading.tape_length_B1)
        np.testing.assert_allclose(model.run_trunk(*arguments), FAKE.run_trunk(*arguments), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("records", [True, False])
def test_every_batch_size_in_turn(root, kind, records):
    """Slots are used again and again; what an earlier, larger batch left in one is seen by nobody."""
    model = load(root, kind, records=records)
    for turn, count in enumerate([MAX_BATCH_SIZE, 1, 3, 2, 7, 3, 1, MAX_BATCH_SIZE - 1]):
        for cap in (0, 3, TAPE_CAPACITY):
            check(model, images(count, seed=turn), cap)


def test_answers_outlive_the_slot_they_came_from(root):
    model = load(root)
    arguments = [
        (np.full((1, 1, 10), level, np.float32), np.zeros((1, 0, 10), np.float32), np.zeros((1, 1), np.int32))
        for level in (1, 2)
    ]
    first, _ = [model.run_trunk(*each) for each in arguments]
    np.testing.assert_array_equal(first, np.ones((1, 10)))


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [1]), (2, [1, 2]), (16, [1, 2, 4, 8, 16]), (20, [1, 2, 4, 8, 16, 20])]
)
def test_sizes_are_powers_of_two_and_the_limit(limit, sizes):
    assert sizes_up_to(limit) == sizes


def test_the_least_loaded_device_is_lent():
    devices = Devices([0, 1, 2], "cpu")
    with devices.least_loaded() as (first, _), devices.least_loaded() as (second, _):
        with devices.least_loaded() as (third, _):
            assert (first, second, third) == (0, 1, 2)
        with pytest.raises(ValueError, match="work"), devices.least_loaded() as (third, _):
            raise ValueError("work")
        with devices.least_loaded() as (again, _):
            assert again == third == 2
    assert [device.num_running for device in devices.all] == [0, 0, 0]


def test_several_devices_answer_as_one(root):
    model = load(root, numbers=(0, 0))
    threads = [threading.Thread(target=check, args=(model, images(3, seed), 5)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(model, images(2), TAPE_CAPACITY)


def test_all_work_of_a_device_is_on_one_thread():
    device = Device(0, "cpu")
    idents = set()
    callers = [threading.Thread(target=lambda: idents.add(device.run(threading.get_ident))) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(idents) == 1
    assert threading.get_ident() not in idents


def session(provider, **options):
    return SimpleNamespace(get_providers=lambda: [provider], get_provider_options=lambda: {provider: options})


def test_the_provider_that_runs_has_to_be_the_one_asked_for():
    Device(1).check(session("CUDAExecutionProvider", device_id="1"))
    with pytest.raises(DeviceMissing, match="device; got CPUExecutionProvider; expected CUDAExecutionProvider"):
        Device(0).check(session("CPUExecutionProvider"))
    with pytest.raises(DeviceMissing, match="device; got number 0; expected number 1"):
        Device(1).check(session("CUDAExecutionProvider", device_id="0"))


@pytest.mark.parametrize("records", [True, False])
def test_what_is_asked_of_cuda(records):
    (name, options), last = Device(1).providers(records=records)
    assert (name, last) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["device_id"] == "1"
    assert options["use_tf32"] == "0"
    assert options["enable_cuda_graph"] == str(int(records))


def fail(text, error=status.Fail):
    raise error(text)


def test_a_full_device_is_told_from_a_broken_one():
    device = Device(3, "cpu")
    for text in ("CUDA failure 2: out of memory", "BFCArena: Failed to allocate memory for requested buffer"):
        with pytest.raises(OutOfMemory, match=r"memory of device 3; got .*; expected a batch"):
            device.run(lambda text=text: fail(text))
    with pytest.raises(status.Fail, match="illegal"):
        device.run(lambda: fail("an illegal memory access"))


def test_a_trunk_that_cannot_be_recorded_is_named():
    trunk = SimpleNamespace(record=lambda: fail("control flow"))
    with pytest.raises(
        BackendFailed, match="CUDA graph of adatape_fake, bucket 4; got control flow; expected one that"
    ):
        _record(MANIFEST, {4: trunk})


@WITHOUT_CUDA
def test_a_gpu_that_is_not_there_ends_the_start(root):
    settings = Settings(model_repository=root, device="cuda")
    with pytest.raises(BackendFailed, match="device; got an onnxruntime without CUDA; expected onnxruntime-gpu"):
        build_engine(settings, Metrics())


class Missing:
    def load(self, manifest):
        raise DeviceMissing("device", "CPUExecutionProvider", "CUDAExecutionProvider")


def test_auto_takes_the_cpu_where_cuda_does_not_run(root, caplog):
    model = CudaOrCpuBackend(Missing(), OrtBackend(root, num_threads=1)).load(MANIFEST)
    assert model.device == "CPUExecutionProvider"
    assert "cuda_unusable family=adatape_fake" in caplog.text
    check(model, images(2), 4)


def test_auto_keeps_what_cuda_loads(root):
    cuda = CudaBackend(root, Devices([0], "cpu"), num_threads=1)
    assert type(CudaOrCpuBackend(cuda, OrtBackend(root, num_threads=1)).load(MANIFEST)).__name__ == "CudaModel"


def test_other_faults_are_not_hidden_by_auto(root):
    broken = MANIFEST.model_copy(update={"reader": graph("missing")})
    cuda = CudaBackend(root, Devices([0], "cpu"), num_threads=1)
    with pytest.raises(BackendFailed, match="graph missing"):
        CudaOrCpuBackend(cuda, OrtBackend(root, num_threads=1)).load(broken)


@pytest.mark.parametrize(
    ("options", "numbers", "executions"),
    [
        ({}, [0], 1),
        ({"device": "cuda", "devices": "1"}, [1], 1),
        ({"device": "cuda", "devices": "2,0,2"}, [2, 0], 2),
        ({"device": "cuda", "devices": "0,1", "num_instances": 5}, [0, 1], 5),
    ],
)
def test_the_devices_of_the_settings(options, numbers, executions):
    settings = Settings(**options)
    assert (settings.device_numbers, settings.max_executions) == (numbers, executions)


@pytest.mark.parametrize("options", [{"devices": "0,1"}, {"devices": "0,1", "device": "cpu"}, {"devices": "a"}])
def test_devices_that_cannot_be_meant(options):
    with pytest.raises(ValueError, match="devices"):
        Settings(**options)


@pytest.mark.gpu
def test_a_gpu_says_that_it_is_one(root):
    assert load(root, "cuda").device == "CUDAExecutionProvider"
