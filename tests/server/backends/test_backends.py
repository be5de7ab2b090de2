from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.base import warm
from server.backends.fake import BUCKETS, FAMILY, TAPE_CAPACITY, FakeBackend, FakeModel, fake_manifest
from server.engine import build_engine
from server.errors import BackendFailed
from server.metrics import Metrics
from server.models.manifest import GraphFile, GraphSpec
from server.records import InferRequest, RequestLimits
from server.settings import Settings
from tests.server.simulation import images, random_images

MANIFEST = fake_manifest()
FAKE = FakeModel()


def caps(*values):
    return np.array(values, np.int32).reshape(-1, 1)


# --- The fake one --------------------------------------------------------------------------------


@pytest.mark.parametrize(("byte", "wanted"), [(0, 1), (15, 1), (31, 2), (127, 8), (255, 16)])
def test_fake_tape_is_the_brightness(byte, wanted):
    reading = FAKE.read(images(byte), caps(TAPE_CAPACITY))
    assert reading.tape_length_wanted_B1.item() == reading.tape_length_B1.item() == wanted


def test_fake_rows_past_the_length_are_zero():
    reading = FAKE.read(images(127, 127), caps(3, 16))
    assert reading.tape_length_B1.ravel().tolist() == [3, 8]
    assert not reading.tape_BND[0, 3:].any()
    assert reading.tape_BND[0, :3].all()
    assert not reading.pick_weights_BNK[0, 3:].any()


@given(st.integers(0, 99), st.integers(0, TAPE_CAPACITY))
def test_fake_answers_do_not_depend_on_the_bucket(seed, cap):
    reading = FAKE.read(random_images(3, seed), caps(cap, cap, cap))
    longest = int(reading.tape_length_B1.max())
    logits = [
        FAKE.run_trunk(reading.hidden_BSD, reading.tape_BND[:, :bucket], reading.tape_length_B1)
        for bucket in BUCKETS
        if bucket >= longest
    ]
    for other in logits[1:]:
        np.testing.assert_array_equal(logits[0], other)


def test_fake_serves_its_own_family_only():
    stranger = MANIFEST.model_copy(update={"tape_capacity": 12})
    with pytest.raises(BackendFailed, match="fake"):
        FakeBackend().load(stranger)


def test_warm_visits_every_stage_and_bucket():
    visited = []

    class Tracker(FakeModel):
        def read(self, image_BHWC, max_tape_B1):
            visited.append(("read", int(max_tape_B1.max())))
            return super().read(image_BHWC, max_tape_B1)

        def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
            visited.append(("trunk", tape_BTD.shape[1]))
            return super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)

    warm(Tracker(), MANIFEST)
    assert visited == [("read", 0), ("read", TAPE_CAPACITY), *(("trunk", bucket) for bucket in BUCKETS)]


# --- onnxruntime, on graphs made here ------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with the fake family as real graphs."""
    pytest.importorskip("onnx", reason="needs onnx to write graphs")
    from tests.server.backends import tiny_graphs

    folder = tmp_path_factory.mktemp("repository")
    tiny_graphs.save_reader(folder / "reader.onnx")
    tiny_graphs.save_trunk(folder / "trunk.onnx")
    tiny_graphs.save_trunk(folder / "other.onnx", tape_name="ribbon")
    (folder / "rubbish.onnx").write_bytes(b"this is no graph")
    return folder


def manifest_of(reader="reader.onnx", trunk="trunk.onnx"):
    def graph(path):
        return GraphSpec(name=path.removesuffix(".onnx"), files=[GraphFile(path=path, sha256="0" * 64, size_bytes=0)])

    return MANIFEST.model_copy(update={"reader": graph(reader), "trunk": graph(trunk)})


def load(root, **graphs):
    from server.backends.ort import OrtBackend

    return OrtBackend(root, num_threads=1).load(manifest_of(**graphs))


def test_importing_the_backend_turns_telemetry_off(monkeypatch):
    """In a process of its own: onnxruntime reads the variable when first imported."""
    import os
    import subprocess
    import sys

    pytest.importorskip("onnxruntime")
    script = "import server.backends.ort, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "1"


@pytest.mark.parametrize("cap", [0, 1, 5, TAPE_CAPACITY])
@pytest.mark.parametrize("num_images", [1, 5])
def test_graphs_and_fake_agree(root, cap, num_images):
    model = load(root)
    batch = random_images(num_images, seed=cap)
    reading, expected = (one.read(batch, caps(*[cap] * num_images)) for one in (model, FAKE))
    for field in expected.__dataclass_fields__:
        np.testing.assert_allclose(getattr(reading, field), getattr(expected, field), rtol=1e-6, err_msg=field)
        assert getattr(reading, field).dtype == getattr(expected, field).dtype, field
    for bucket in BUCKETS:
        if bucket >= reading.tape_length_B1.max():
            arguments = (reading.hidden_BSD, reading.tape_BND[:, :bucket], reading.tape_length_B1)
            np.testing.assert_allclose(model.run_trunk(*arguments), FAKE.run_trunk(*arguments), rtol=1e-6)


def test_the_device_is_the_one_that_really_runs(root):
    assert load(root).device == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("graphs", "fault"),
    [
        ({"reader": "rubbish.onnx"}, "graph rubbish"),
        ({"reader": "missing.onnx"}, "graph missing"),
        ({"trunk": "other.onnx"}, "inputs of graph other.*ribbon"),
        ({"reader": "trunk.onnx"}, "inputs of graph trunk"),
    ],
)
def test_graphs_that_cannot_be_served_are_refused(root, graphs, fault):
    with pytest.raises(BackendFailed, match=fault):
        load(root, **graphs)


def test_instances_share_the_sessions(root):
    model, results = load(root), {}

    def work(number):
        batch = random_images(4, seed=number)
        for _ in range(20):
            reading = model.read(batch, caps(16, 16, 16, 16))
            results[number] = model.run_trunk(reading.hidden_BSD, reading.tape_BND, reading.tape_length_B1)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, logits_BC in results.items():
        reading = FAKE.read(random_images(4, seed=number), caps(16, 16, 16, 16))
        expected_BC = FAKE.run_trunk(reading.hidden_BSD, reading.tape_BND, reading.tape_length_B1)
        np.testing.assert_allclose(logits_BC, expected_BC, rtol=1e-6)


async def test_a_repository_on_disk_is_served_end_to_end(root, tmp_path):
    """Settings -> repository -> onnxruntime -> engine -> answer."""
    import asyncio
    import hashlib

    folder = tmp_path / FAMILY / "1"
    folder.mkdir(parents=True)
    graphs = {}
    for name in ("reader", "trunk"):
        content = (root / f"{name}.onnx").read_bytes()
        (folder / f"{name}.onnx").write_bytes(content)
        file = GraphFile(
            path=f"{FAMILY}/1/{name}.onnx", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
        )
        graphs[name] = GraphSpec(name=name, files=[file])
    manifest = MANIFEST.model_copy(update=graphs | {"trunks": [graphs["trunk"]] * len(BUCKETS)})
    (folder / "manifest.json").write_text(manifest.model_dump_json())

    engine = build_engine(Settings(model_repository=tmp_path, device="cpu"), Metrics())
    await engine.start()
    assert engine.is_ready
    assert engine.device == "CPUExecutionProvider"
    now = asyncio.get_running_loop().time()
    requests = [
        InferRequest(f"r{cap}", FAMILY, images(127, 99), now, RequestLimits(max_tape=cap)) for cap in (0, 4, 16)
    ]
    answers = await asyncio.gather(*map(engine.infer, requests))
    assert [[s.receipt.tape_length for s in answer.samples] for answer in answers] == [[0, 0], [4, 4], [8, 6]]
    for answer in answers:
        for sample, byte in zip(answer.samples, (127, 99), strict=True):
            expected = byte / 255 * (1 + sample.receipt.tape_length)
            np.testing.assert_allclose(sample.logits_C, np.full(10, expected), rtol=1e-5)
    assert await engine.drain(5.0) == 0
