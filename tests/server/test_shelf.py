"""Families come and go while others are served, and the statistics of each are true."""

import asyncio
import gc
import shutil
import weakref

import pytest

from server.backends.fake import FAMILY, FakeBackend
from server.engine import Engine
from server.engine.memory import trim
from server.engine.shelf import TRIM_DELAY_S
from server.engine.statuses import Standing, Status
from server.errors import BackendFailed, ModelNotReady, NotFound, Unavailable
from server.metrics import Metrics
from server.models.repository import Repository
from server.settings import Settings
from tests.server.models.test_repository import write_family
from tests.server.simulation import SimulatedInstances, World, images, simulate

READY, UNAVAILABLE = Standing.READY, Standing.UNAVAILABLE


class Forgetful(FakeBackend):
    """Fails to load whatever is in `broken`, and remembers what it loaded."""

    def __init__(self):
        super().__init__()
        self.broken = set()
        self.loaded = []

    def load(self, manifest):
        if manifest.version in self.broken:
            raise BackendFailed("graph", manifest.version, "one that loads")
        self.loaded.append(manifest.version)
        return super().load(manifest)


def on_disk(root, scenario):
    """Run a scenario, a coroutine function of a world and its backend, over a repository on disk."""

    async def main():
        metrics, instances, backend = Metrics(), SimulatedInstances(), Forgetful()
        clock = asyncio.get_running_loop().time
        settings = Settings(backend="fake")
        engine = Engine(Repository(root), backend, metrics, settings, instances=instances, clock=clock)
        await engine.start()
        return await scenario(World(engine, metrics, instances), backend)

    return simulate(main())


@pytest.fixture
def root(tmp_path):
    write_family(tmp_path)
    return tmp_path


def statuses(engine):
    return {status.version: status.standing for status in engine.shelf.statuses()}


def test_unloading_finishes_what_was_accepted(root):
    async def scenario(world, backend):
        answers = [asyncio.create_task(world.infer(images(level))) for level in (10, 100, 200)]
        await asyncio.sleep(0)
        leaving = asyncio.create_task(world.engine.shelf.unload(FAMILY))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert statuses(world.engine) == {"1": Standing.UNLOADING}
        with pytest.raises(ModelNotReady):
            await world.infer(images(1))
        assert not any(answer.done() for answer in answers)
        await leaving
        assert all(answer.done() for answer in answers)
        assert [len((await answer).samples) for answer in answers] == [1, 1, 1]
        assert world.engine.shelf.statuses() == [Status(FAMILY, "1", UNAVAILABLE, "it is not loaded")]
        assert not world.engine.is_ready
        assert world.metrics.registry.get_sample_value("adatape_model_info") is None

    on_disk(root, scenario)


def test_unloading_goes_on_when_its_caller_leaves(root):
    async def scenario(world, backend):
        answer = asyncio.create_task(world.infer(images(100)))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(world.engine.shelf.unload(FAMILY))
        await asyncio.sleep(0)
        leaving.cancel()
        await answer
        await asyncio.sleep(0.001)
        assert statuses(world.engine) == {"1": UNAVAILABLE}

    on_disk(root, scenario)


def test_a_family_that_was_unloaded_is_really_loaded_again(root):
    async def scenario(world, backend):
        await world.engine.shelf.unload(FAMILY)
        await world.engine.shelf.load(FAMILY)
        assert backend.loaded == ["1", "1"]
        assert statuses(world.engine) == {"1": READY}
        assert (await world.infer(images(127))).samples[0].receipt.tape_length == 8

    on_disk(root, scenario)


def test_loading_takes_the_newest_version_and_what_was_accepted_stays_with_its_own(root):
    async def scenario(world, backend):
        before = asyncio.create_task(world.infer(images(100)))
        await asyncio.sleep(0)
        write_family(root, version="2", content=b"better graph")
        await world.engine.shelf.load(FAMILY)
        assert (await before).version == "1"
        assert (await world.infer(images(100))).version == "2"
        assert statuses(world.engine) == {"1": UNAVAILABLE, "2": READY}
        assert backend.loaded == ["1", "2"]

    on_disk(root, scenario)


def test_a_version_that_was_replaced_is_let_go_and_then_memory_is_given_back(root, monkeypatch):
    held = []
    monkeypatch.setattr("server.engine.shelf.trim", lambda: held.append([former() is not None for former in formers]))

    async def scenario(world, backend):
        family = world.engine.shelf.families[FAMILY]
        formers.extend(weakref.ref(each) for each in (family, family.model, family.costs))
        del family
        await world.infer(images(100))
        world.instances.history.clear()
        write_family(root, version="2", content=b"better graph")
        await world.engine.shelf.load(FAMILY)
        await asyncio.sleep(2 * TRIM_DELAY_S)
        await asyncio.get_running_loop().shutdown_default_executor()

    formers = []
    gc.disable()  # or a collection might do what references ought to
    try:
        on_disk(root, scenario)
    finally:
        gc.enable()
    assert held == [[False, False, False]]


def test_trimming_memory_does_no_harm_on_any_system():
    trim()


def test_loading_what_is_loaded_changes_nothing(root):
    async def scenario(world, backend):
        await world.engine.shelf.load(FAMILY)
        assert backend.loaded == ["1"]

    on_disk(root, scenario)


def test_a_version_that_cannot_be_loaded_leaves_the_former_in_place(root):
    async def scenario(world, backend):
        write_family(root, version="2")
        backend.broken.add("2")
        with pytest.raises(BackendFailed):
            await world.engine.shelf.load(FAMILY)
        assert statuses(world.engine) == {"1": READY, "2": UNAVAILABLE}
        assert "got 2; expected one that loads" in world.engine.shelf.statuses()[1].reason
        assert (await world.infer(images(100))).version == "1"

    on_disk(root, scenario)


def test_unknown_families_are_not_found(root):
    async def scenario(world, backend):
        for change in (world.engine.shelf.load, world.engine.shelf.unload):
            with pytest.raises(NotFound):
                await change("cat")
        assert statuses(world.engine) == {"1": READY}

    on_disk(root, scenario)


def test_a_lost_repository_is_unavailable_and_what_is_loaded_goes_on(root):
    async def scenario(world, backend):
        shutil.rmtree(root)
        with pytest.raises(Unavailable):
            await world.engine.shelf.load(FAMILY)
        await world.infer(images(100))

    on_disk(root, scenario)


def test_broken_versions_say_why(root):
    folder = write_family(root, version="3")
    (folder / "model.onnx").write_bytes(b"")

    async def scenario(world, backend):
        assert statuses(world.engine) == {"1": READY, "3": UNAVAILABLE}
        assert "0 bytes" in world.engine.shelf.statuses()[1].reason

    on_disk(root, scenario)


# --- Statistics --------------------------------------------------------------------------------


def test_statistics_add_up(root):
    async def scenario(world, backend):
        await asyncio.gather(*(world.infer(images(*levels)) for levels in ((10,), (100, 200), (30, 40, 50))))
        statistics = world.engine.shelf.find(FAMILY).meter.statistics
        assert statistics.inference_count == 6
        assert statistics.success.count == statistics.queue.count == statistics.compute_infer.count == 3
        assert sum(size * batch.count for size, batch in statistics.batches.items()) == 6
        assert statistics.execution_count == sum(batch.count for batch in statistics.batches.values())
        parts = (statistics.queue, statistics.compute_input, statistics.compute_infer, statistics.compute_output)
        assert sum(part.ns for part in parts) == pytest.approx(statistics.success.ns, abs=10)
        assert all(isinstance(part.ns, int) and part.ns >= 0 for part in parts)
        assert statistics.compute_infer.ns > 0
        assert statistics.last_inference_ms > 0

    on_disk(root, scenario)


def test_failures_are_counted_too(root):
    async def scenario(world, backend):
        asked = asyncio.create_task(world.infer(images(100)))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        statistics = world.engine.shelf.find(FAMILY).meter.statistics
        assert (statistics.fail.count, statistics.success.count) == (1, 0)

    on_disk(root, scenario)


def test_an_older_version_is_not_taken_for_a_newest_that_is_broken(root):
    async def scenario(world, backend):
        folder = write_family(root, version="2")
        (folder / "model.onnx").write_bytes(b"other")
        what = r"version 2 of adatape_fake; got adatape_fake/2/model\.onnx; got sha256"
        with pytest.raises(ModelNotReady, match=what):
            await world.engine.shelf.load(FAMILY)
        assert (await world.infer(images(100))).version == "1"
        assert statuses(world.engine) == {"1": READY, "2": UNAVAILABLE}
        shutil.rmtree(folder)
        await world.engine.shelf.load(FAMILY)
        assert backend.loaded == ["1"]
        await world.engine.drain(1)

    on_disk(root, scenario)


def test_what_answers_is_described_and_not_what_only_lies_on_disk(root):
    async def scenario(world, backend):
        backend.broken.add("2")
        write_family(root, version="2", content=b"other")
        with pytest.raises(BackendFailed):
            await world.engine.shelf.load(FAMILY)
        assert world.engine.shelf.manifest(FAMILY).version == "1"
        assert world.engine.shelf.manifest(FAMILY, "2").version == "2"
        await world.engine.shelf.unload(FAMILY)
        assert world.engine.shelf.manifest(FAMILY).version == "2"
        await world.engine.drain(1)

    on_disk(root, scenario)
