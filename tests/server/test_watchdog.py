"""Faults of executions: who is affected, how soon it is over, and when only a new process can help."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from server.backends.base import COLD_EXECUTION_S, EXECUTION_TIMEOUT_S, is_out_of_memory
from server.backends.fake import FAMILY, FakeModel, fake_manifest
from server.engine import Engine
from server.engine.watchdog import DOUBT_S, HANG_TIMES, MAX_HANGS, MAX_STALL_S, TICK_S, Watchdog
from server.errors import BackendFailed, OutOfMemory, Unavailable
from server.metrics import Metrics
from server.models.repository import Repository
from server.records import InferRequest
from server.scheduler import Batch, Costs, LatencyModel, Stage
from server.settings import Settings
from tests.server.simulation import images, open_world, simulate

HANG = 77


class HangingModel(FakeModel):
    """Hangs, until it is released, on images whose first byte is `HANG`."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def read(self, image_BHWC, max_tape_B1):
        if (image_BHWC[:, 0, 0, 0] == HANG).any():
            self.release.wait(60)
        return super().read(image_BHWC, max_tape_B1)


class Backend:
    def __init__(self, model):
        self.model = model

    def load(self, manifest):
        return self.model


def request(first: int = 1) -> InferRequest:
    return InferRequest("r", FAMILY, images(120, first=first), asyncio.get_running_loop().time())


async def opened(model, **settings) -> tuple[Engine, Metrics]:
    metrics, loop = Metrics(), asyncio.get_running_loop()
    repository = Repository(None, builtin=[fake_manifest()])
    engine = Engine(repository, Backend(model), metrics, Settings(backend="fake", **settings), clock=loop.time)
    await engine.start()
    return engine, metrics


async def test_a_hanging_execution_costs_its_own_requests_and_the_next_is_answered():
    model = HangingModel()
    engine, metrics = await opened(model, hang_timeout_s=0.3)
    with pytest.raises(BackendFailed, match=r"read execution; got read execution; got no end after 0\.3 s"):
        await engine.infer(request(HANG))
    answer = await engine.infer(request())
    assert len(answer.samples) == 1
    assert metrics.registry.get_sample_value("adatape_recovery_seconds_count", {"fault": "hang"}) == 1
    assert metrics.registry.get_sample_value("adatape_recovery_seconds_sum", {"fault": "hang"}) < 5
    engine.check_live()
    before = threading.active_count()
    model.release.set()
    while threading.active_count() >= before:  # noqa: ASYNC110 - the thread that hung ends by itself
        await asyncio.sleep(0)
    assert len((await engine.infer(request())).samples) == 1
    assert await engine.drain(1) == 0


async def test_an_engine_that_hangs_again_and_again_is_not_live():
    model = HangingModel()
    engine, _ = await opened(model, hang_timeout_s=0.01)
    for _ in range(MAX_HANGS):
        engine.check_live()
        with pytest.raises(BackendFailed):
            await engine.infer(request(HANG))
    with pytest.raises(Unavailable, match="restart this process"):
        engine.check_live()
    await engine.infer(request())
    engine.check_live()
    model.release.set()
    await engine.drain(1)


class Ran:
    """An execution as the watchdog sees it."""

    def __init__(self, predicted_s: float = 0.01, *, stage: Stage = Stage.READ, cold=()) -> None:
        self.batch = Batch("m", stage, 0, [], predicted_s, 0.0)
        self.family = SimpleNamespace(cold=set(cold))
        self.started_s = self.patience_s = None
        self.error: Exception | None = None
        self.claim = lambda: True


def given_up_after_s(runs: list[Ran], limit_s: float = 1.5, grace_s: float = 0.0) -> list[float]:
    """Return how long each execution, one after another and none of them ending, was waited for."""

    async def scenario() -> list[float]:
        loop, taken, waits_s = asyncio.get_running_loop(), [], []
        watchdog = Watchdog(limit_s, Metrics(), loop.time, grace_s=grace_s)
        watchdog.connect(give_up=taken.append, is_waiting=lambda: False)
        for number, run in enumerate(runs, 1):
            started_s = loop.time()
            watchdog.started(run)
            while len(taken) < number:  # noqa: ASYNC110 - in fake time
                await asyncio.sleep(TICK_S)
            waits_s.append(loop.time() - started_s)
            watchdog.ended(run)
        watchdog.stop()
        return waits_s

    return simulate(scenario())


def test_after_a_hang_there_is_less_patience_with_its_stage_alone():
    first_s, second_s, third_s = given_up_after_s([Ran() for _ in range(MAX_HANGS)])
    assert first_s == pytest.approx(1.5, abs=2 * TICK_S)
    assert second_s == third_s == pytest.approx(DOUBT_S, abs=2 * TICK_S)
    assert first_s + second_s + third_s < 3.1, "the rest of five seconds is for a new process"
    assert given_up_after_s([Ran(), Ran(stage=Stage.TRUNK)])[1] == pytest.approx(1.5, abs=2 * TICK_S)


def test_what_was_predicted_to_be_slow_is_not_given_up_for_being_slow():
    slow_s = HANG_TIMES * 0.5
    assert given_up_after_s([Ran(0.5), Ran(0.5)]) == pytest.approx([slow_s, slow_s], abs=2 * TICK_S)


def test_what_has_never_run_gets_the_time_that_a_first_run_may_take():
    cold = {(Stage.READ, 0)}
    assert given_up_after_s([Ran(cold=cold), Ran(cold=cold)]) == pytest.approx(
        [COLD_EXECUTION_S, COLD_EXECUTION_S], abs=2 * TICK_S
    )
    watchdog, run = Watchdog(1.5, Metrics(), lambda: 0.0), Ran(cold=cold)
    watchdog.ended(run)
    assert run.family.cold == set()


def test_a_backend_that_calls_off_late_executions_itself_gets_the_time_to_do_so():
    (seconds,) = given_up_after_s([run := Ran()], limit_s=3.0, grace_s=1.5)
    assert run.patience_s == 3.0
    assert seconds == pytest.approx(4.5, abs=2 * TICK_S)
    assert seconds < 5


def test_a_backend_is_told_how_long_it_may_take():
    told: list[float | None] = []

    class Asking(FakeModel):
        def read(self, image_BHWC, max_tape_B1):
            told.append(EXECUTION_TIMEOUT_S.get())
            return super().read(image_BHWC, max_tape_B1)

    async def scenario() -> None:
        engine, _ = await opened(Asking(), hang_timeout_s=7)
        await engine.infer(request())
        await engine.drain(1)

    asyncio.run(scenario())
    assert told[-1] == 7
    assert set(told[:-1]) == {COLD_EXECUTION_S}, "warming runs everything for the first time"


def test_work_that_nothing_runs_is_a_stall():
    async def scenario() -> tuple[bool, bool, bool]:
        waiting = [True]
        watchdog = Watchdog(3.0, Metrics(), asyncio.get_running_loop().time)
        watchdog.connect(give_up=lambda _: None, is_waiting=lambda: waiting[0])
        watchdog.wake()
        await asyncio.sleep(MAX_STALL_S - TICK_S)
        early = watchdog.is_stuck
        await asyncio.sleep(2 * TICK_S)
        late = watchdog.is_stuck
        waiting[0] = False
        await asyncio.sleep(2 * TICK_S)
        watchdog.stop()
        return early, late, watchdog.is_stuck

    assert simulate(scenario()) == (False, True, False)


class Cramped(FakeModel):
    """Has memory for so many samples."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error, self.sizes = room, error, []

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        if len(hidden_BSD) > self.room:
            raise self.error
        self.sizes.append(len(hidden_BSD))
        return super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)


NO_MEMORY = [
    OutOfMemory("batch", 16, "less"),
    MemoryError(),
    RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer of size 1073741824"),
    RuntimeError("CUDA failure 2: out of memory"),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=str)
def test_a_batch_that_does_not_fit_is_halved_and_everyone_is_answered(error):
    model = Cramped(3, error)

    async def scenario():
        world = await open_world(backend=Backend(model))
        answers = await asyncio.gather(*(world.infer(images(level)) for level in [120] * 16))
        world_ok = world.outcomes()
        again = await asyncio.gather(*(world.infer(images(level)) for level in [120] * 16))
        await world.engine.drain(1)
        return answers + again, world_ok, world.value("adatape_recovery_seconds_count", fault="memory")

    answers, outcomes, num_recoveries = simulate(scenario())
    assert len(answers) == 32
    assert outcomes == {"ok": 16}
    assert num_recoveries >= 1
    assert max(model.sizes) <= 3


def test_one_sample_that_does_not_fit_is_refused():
    async def scenario():
        model = Cramped(1, OutOfMemory("batch", 1, "less"))
        world = await open_world(backend=Backend(model))
        model.room = 0
        try:
            await world.infer(images(120))
        finally:
            await world.engine.drain(1)

    with pytest.raises(OutOfMemory, match="trunk execution"):
        simulate(scenario())


def test_other_failures_are_no_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(BackendFailed("logits"))


def test_a_batch_limit_lasts_whatever_is_learned():
    costs = Costs(manifest := fake_manifest(), LatencyModel(manifest), 16)
    costs.limit_batch(Stage.TRUNK, 8, 2)
    for _ in range(40):
        costs.observe(Stage.TRUNK, 8, 2, 1e-6)
    assert costs.splits(Stage.TRUNK, 8).limit == 2
    assert costs.splits(Stage.TRUNK, 16).limit > 2


def test_a_server_that_is_about_to_leave_admits_requests_and_says_that_it_is_not_ready():
    async def scenario():
        world = await open_world()
        world.engine.leave()
        flags = world.engine.is_ready, world.engine.is_admitting
        await world.infer(images(120))
        await world.engine.drain(1)
        return flags, world.engine.is_admitting, world.outcomes()

    assert simulate(scenario()) == ((False, True), False, {"ok": 1})
