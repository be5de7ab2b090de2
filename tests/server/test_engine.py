"""The engine, whole, in fake time: `tests/server/simulation.py` replaces the clock and the threads only."""

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.fake import BUCKETS, FAMILY, TAPE_CAPACITY, fake_manifest
from server.errors import (
    BackendFailed,
    BadRequest,
    DeadlineExceeded,
    Draining,
    ModelNotReady,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    ServeError,
    Unavailable,
)
from server.metrics import Metrics
from server.models.repository import Repository
from server.records import BudgetReason, InferRequest, Priority
from server.scheduler import LatencyModel, Stage
from server.settings import Settings
from tests.server.simulation import (
    NAN_LOGITS,
    RAISE_IN_READ,
    RAISE_IN_TRUNK,
    SimulatedInstances,
    TroubledBackend,
    images,
    open_world,
    random_images,
    simulate,
)

MANIFEST = fake_manifest()
SLOW_S = 0.01


def in_world(scenario, **options):
    """Run a scenario, a coroutine function of a fresh world, and return what it returns."""

    async def main():
        world = await open_world(**options)
        result = await scenario(world)
        assert world.engine.num_pending == 0
        return result

    return simulate(main())


def solo(image_HWC, **ask):
    """Return the one sample of an answer to an image that had the engine for itself."""
    return solos(image_HWC[None], **ask)[0]


def solos(batch, **ask):
    """Return the samples of images that each had the engine for itself, one after the other."""

    async def scenario(world):
        return [(await world.infer(image_HWC[None], **ask)).samples[0] for image_HWC in batch]

    return in_world(scenario)


# --- Answers and receipts ----------------------------------------------------------------------


def test_an_answer_can_be_predicted_by_eye():
    sample = solo(images(127)[0])
    assert sample.receipt.tape_length == 8
    np.testing.assert_allclose(sample.logits_C, np.full(10, 127 / 255 * 9), rtol=1e-6)


@pytest.mark.parametrize(
    ("byte", "max_tape", "tape_length", "bucket"),
    [(127, None, 8, 8), (127, 5, 5, 8), (127, 4, 4, 4), (127, 1, 1, 4), (0, None, 1, 4), (252, None, 15, 16)],
)
def test_tape_is_what_the_sample_wants_up_to_the_cap(byte, max_tape, tape_length, bucket):
    receipt = solo(images(byte)[0], max_tape=max_tape).receipt
    assert (receipt.tape_length, receipt.bucket) == (tape_length, bucket)
    assert receipt.tape_length_wanted == max(1, (byte + 1) // 16)


def test_cap_zero_reads_nothing_and_pays_for_no_reading():
    receipt = solo(images(127)[0], max_tape=0).receipt
    assert (receipt.tape_length, receipt.tape_length_wanted, receipt.bucket) == (0, None, 0)
    assert receipt.executed_flops == receipt.useful_flops == MANIFEST.flops.useful(0, cap=0)


def test_a_receipt_says_what_the_answer_cost():
    receipt = solo(images(127)[0], max_tape=5).receipt
    flops = MANIFEST.flops
    assert (receipt.model, receipt.version, receipt.cap) == (FAMILY, "1", 5)
    assert receipt.budget_reason is BudgetReason.REQUESTED
    assert receipt.useful_flops == flops.useful(5, cap=5)
    assert receipt.executed_flops == flops.read_executed(is_reading=True) + flops.trunk[8]


def test_times_add_up_and_are_those_of_the_executions():
    async def scenario(world):
        first = asyncio.create_task(world.infer(images(127)))
        await asyncio.sleep(1e-5)
        second = asyncio.create_task(world.infer(images(127)))
        return [(await task).samples[0].receipt for task in (first, second)]

    first, second = in_world(scenario)
    assert first.queue_s == pytest.approx(0, abs=1e-9)
    assert first.read_s == pytest.approx(160e-6)
    assert first.trunk_s == pytest.approx(280e-6)
    for receipt in (first, second):
        assert receipt.total_s == pytest.approx(receipt.queue_s + receipt.read_s + receipt.trunk_s)
    assert second.queue_s >= 150e-6 - 1e-9


def test_one_request_may_mix_caps():
    async def scenario(world):
        return await world.engine.infer(world.request(images(127, 127, 127), max_tape_B=(0, 3, 99), max_tape=6))

    receipts = [sample.receipt for sample in in_world(scenario).samples]
    assert [receipt.cap for receipt in receipts] == [0, 3, 6]
    assert [receipt.tape_length for receipt in receipts] == [0, 3, 6]


def test_explain_brings_the_picks_and_only_then():
    async def scenario(world):
        return await world.engine.infer(world.request(images(127), explain=True))

    sample = in_world(scenario).samples[0]
    assert sample.picks_NK.shape == sample.pick_weights_NK.shape == (TAPE_CAPACITY, 2)
    assert sample.pick_weights_NK[:8].sum() == 8
    assert solo(images(127)[0]).picks_NK is None


def test_answers_come_in_the_order_of_the_samples():
    batch = images(250, 0, 100, 30, 200)

    async def scenario(world):
        return await world.infer(batch)

    answer = in_world(scenario)
    np.testing.assert_allclose(
        [s.logits_C[0] / (1 + s.receipt.tape_length) for s in answer.samples], batch[:, 1, 0, 0] / 255, rtol=1e-5
    )


# --- Batching ----------------------------------------------------------------------------------


def test_a_large_batch_is_split_and_joined_again():
    batch = random_images(50, seed=1)

    async def scenario(world):
        answer = await world.infer(batch)
        return answer, [len(execution.batch.tickets) for execution in world.instances.history]

    answer, sizes = in_world(scenario)
    assert len(answer.samples) == 50
    assert max(sizes) <= MANIFEST.max_batch_size
    for alone, sample in zip(solos(batch), answer.samples, strict=True):
        np.testing.assert_array_equal(sample.logits_C, alone.logits_C)


def test_requests_of_one_turn_share_a_batch():
    async def scenario(world):
        await asyncio.gather(*(world.infer(images(127)) for _ in range(10)))
        return [(e.batch.stage, len(e.batch.tickets)) for e in world.instances.history]

    assert in_world(scenario) == [(Stage.READ, 10), (Stage.TRUNK, 10)]


def test_zero_caps_never_share_a_reader_batch_with_others():
    async def scenario(world):
        await asyncio.gather(*(world.infer(images(127), max_tape=cap) for cap in (0, 4, 0, 4)))
        return [{ticket.cap for ticket in e.batch.tickets} for e in world.instances.history if e.reading]

    assert sorted(in_world(scenario), key=max) == [{0}, {4}]


def test_a_whole_request_is_not_copied_on_its_way_to_the_reader():
    seen = []

    class Spy(type(TroubledBackend().load(MANIFEST))):
        def read(self, image_BHWC, max_tape_B1):
            seen.append(image_BHWC)
            return super().read(image_BHWC, max_tape_B1)

    class SpyBackend:
        def load(self, manifest):
            return Spy()

    batch = random_images(8, seed=2)
    in_world(lambda world: world.infer(batch), backend=SpyBackend())
    assert np.shares_memory(seen[-1], batch)


def test_no_more_executions_than_instances():
    async def scenario(world):
        await asyncio.gather(*(world.infer(random_images(3, seed)) for seed in range(20)))

    in_world(scenario, num_instances=3)  # SimulatedInstances asserts it


def test_queue_delay_waits_for_company():
    async def scenario(world):
        first = asyncio.create_task(world.infer(images(127)))
        await asyncio.sleep(0.001)
        second = asyncio.create_task(world.infer(images(127)))
        await asyncio.gather(first, second)
        return [len(e.batch.tickets) for e in world.instances.history]

    assert in_world(scenario, max_queue_delay_s=0.005) == [2, 2]


def test_high_priority_overtakes():
    async def scenario(world):
        finished = []

        async def ask(name, priority):
            await world.infer(random_images(16, seed=1), priority=priority)
            finished.append(name)

        await asyncio.gather(ask("low", Priority.LOW), ask("normal", Priority.NORMAL), ask("high", Priority.HIGH))
        return finished

    assert in_world(scenario) == ["high", "normal", "low"]


# --- Laws --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One client's request in a random scenario."""

    at_s: float
    seed: int
    num_images: int
    max_tape: int | None
    deadline_s: float | None
    cancel_after_s: float | None
    trouble: int | None
    priority: Priority = Priority.NORMAL


calm_calls = st.builds(
    Call,
    at_s=st.floats(0, 0.003),
    seed=st.integers(0, 99),
    num_images=st.integers(1, 20),
    max_tape=st.none() | st.integers(0, 17),
    deadline_s=st.none(),
    cancel_after_s=st.none(),
    trouble=st.none(),
)
wild_calls = st.builds(
    Call,
    at_s=st.floats(0, 0.003),
    seed=st.integers(0, 99),
    num_images=st.integers(1, 20),
    max_tape=st.none() | st.integers(0, 17),
    deadline_s=st.none() | st.floats(0.0001, 0.01),
    cancel_after_s=st.none() | st.floats(0, 0.005),
    trouble=st.none() | st.none() | st.sampled_from([RAISE_IN_READ, RAISE_IN_TRUNK, NAN_LOGITS]),
    priority=st.sampled_from(Priority),
)
worlds = st.fixed_dictionaries(
    {"num_instances": st.integers(1, 3), "shadow_share": st.sampled_from([0.0, 1.0])},
    optional={
        "slo_ms": st.floats(0.5, 20),
        "max_pending_samples": st.sampled_from([256, "inf"]),
        "max_pending_s": st.floats(0.001, 1),
        "max_queue_delay_s": st.just(0.0005),
        "min_tape_high": st.just(4),
    },
)


async def make_call(world, call):
    """Make a call as its client would; return its answer, its error, or the cancellation."""
    await asyncio.sleep(call.at_s)
    batch = random_images(call.num_images, call.seed)
    if call.trouble is not None:
        batch[call.seed % call.num_images, 0, 0, 0] = call.trouble
    ask = world.infer(batch, max_tape=call.max_tape, deadline_s=call.deadline_s, priority=call.priority)
    task = asyncio.create_task(ask)
    if call.cancel_after_s is not None:
        asyncio.get_running_loop().call_later(call.cancel_after_s, task.cancel)
    try:
        return await task
    except (ServeError, asyncio.CancelledError) as error:
        return error


async def make_calls(world, calls):
    return await asyncio.gather(*(make_call(world, call) for call in calls))


@settings(max_examples=60)
@given(st.lists(wild_calls, min_size=1, max_size=25), worlds)
def test_law_conservation(calls, options):
    """Admitted = answered + failed + expired + cancelled, each settled once; receipts sum to the counters."""

    async def scenario(world):
        results = await make_calls(world, calls)
        outcomes = world.outcomes()
        assert sum(outcomes.values()) == len(calls)
        refused = sum("predicted" in str(result) or isinstance(result, Overloaded) for result in results)
        assert world.value("adatape_requests_admitted_total", model=FAMILY) == len(calls) - refused
        answers = [result for result in results if not isinstance(result, BaseException)]
        errors = [result for result in results if isinstance(result, ServeError)]
        assert len(answers) <= outcomes.get("ok", 0)
        for reason in ("backend", "deadline", "overload"):
            assert sum(error.reason == reason for error in errors) == outcomes.get(reason, 0)
        if all(call.cancel_after_s is None for call in calls):
            assert_receipts_sum_to_counters(world, answers)
        wait_s = 1.0  # whatever still runs for cancelled requests ends, and changes nothing
        await asyncio.sleep(wait_s)
        assert world.outcomes() == outcomes

    in_world(scenario, **options)


def assert_receipts_sum_to_counters(world, answers):
    receipts = [sample.receipt for answer in answers for sample in answer.samples]
    assert world.value("adatape_inferences_total", model=FAMILY) == len(receipts)
    useful, padding, _ = (
        world.value("adatape_flops_total", model=FAMILY, kind=kind) for kind in ("useful", "padding", "wasted")
    )
    assert useful == sum(receipt.useful_flops for receipt in receipts)
    assert useful + padding == sum(receipt.executed_flops for receipt in receipts)
    for name, field in [("queue", "queue_s"), ("read", "read_s"), ("trunk", "trunk_s")]:
        total_s = sum(getattr(receipt, field) for receipt in receipts)
        assert world.value(f"adatape_{name}_seconds_sum", model=FAMILY) == pytest.approx(total_s)
    for receipt in receipts:
        assert receipt.total_s >= receipt.queue_s + receipt.read_s + receipt.trunk_s - 1e-9


@settings(max_examples=40)
@given(st.lists(wild_calls, min_size=1, max_size=20), worlds)
def test_law_every_flop_is_useful_padding_wasted_or_a_shadows(calls, options):
    async def scenario(world):
        await make_calls(world, calls)
        await asyncio.sleep(1.0)
        executed = sum(
            len(e.batch.tickets) * e.batch.tickets[0].job.family.manifest.flops.trunk[e.batch.bucket]
            if e.batch.stage is Stage.TRUNK
            else len(e.batch.tickets) * MANIFEST.flops.read_executed(is_reading=e.batch.stage is Stage.READ)
            for e in world.instances.history
            if e.error is None
        )
        kinds = ("useful", "padding", "wasted", "shadow")
        assert sum(world.value("adatape_flops_total", model=FAMILY, kind=kind) for kind in kinds) == executed

    in_world(scenario, **options)


@settings(max_examples=40)
@given(st.lists(calm_calls, min_size=1, max_size=20))
def test_law_batch_and_bucket_invariance(calls):
    """An answer does not depend on who shared its batches, nor on the bucket it rode in."""

    async def scenario(world):
        return await make_calls(world, calls)

    for call, answer in zip(calls, in_world(scenario), strict=True):
        batch = random_images(call.num_images, call.seed)
        for alone, sample in zip(solos(batch, max_tape=call.max_tape), answer.samples, strict=True):
            np.testing.assert_array_equal(sample.logits_C, alone.logits_C)
            assert sample.receipt.tape_length == alone.receipt.tape_length
            assert sample.receipt.bucket >= alone.receipt.bucket


@given(st.integers(0, 252), st.integers(0, 17), st.integers(0, 17))
def test_law_budget_monotonicity(byte, cap, other_cap):
    image_HWC = images(byte)[0]
    smaller, larger = (solo(image_HWC, max_tape=cap).receipt for cap in sorted((cap, other_cap)))
    assert smaller.tape_length <= larger.tape_length
    assert smaller.tape_length <= smaller.cap
    assert smaller.useful_flops <= larger.useful_flops


@settings(max_examples=40)
@given(st.lists(calm_calls, min_size=1, max_size=20))
def test_law_bounded_wait(calls):
    """Whoever is admitted waits at most for all the work that there is, each sample at its worst."""

    async def scenario(world):
        return await make_calls(world, calls)

    num_samples = sum(call.num_images for call in calls)
    worst_s = sum(entry.p50_s for entry in MANIFEST.latency.entries if entry.batch == 1)
    for answer in in_world(scenario):
        assert answer.samples[0].receipt.total_s <= worst_s * num_samples


# --- Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (
            np.zeros((1, 9, 8, 3), np.uint8),
            BadRequest,
            r"image; got uint8 \[1, 9, 8, 3\]; expected uint8 \[batch, 8, 8, 3\]",
        ),
        (np.zeros((1, 8, 8, 3), np.float32), BadRequest, "float32"),
        (np.zeros((8, 8, 3), np.uint8), BadRequest, "expected uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), BadRequest, "empty batch"),
        (np.zeros((9, 8, 8, 3), np.uint8), PayloadTooLarge, "at most 8"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(batch, error, message):
    async def scenario(world):
        with pytest.raises(error, match=message):
            await world.infer(batch)
        assert world.outcomes() == {error.reason: 1}
        assert world.instances.history == []

    in_world(scenario, max_request_samples=8)


def test_one_cap_for_each_sample():
    async def scenario(world):
        with pytest.raises(BadRequest, match="2 caps; expected one for each of 1"):
            await world.engine.infer(world.request(images(1), max_tape_B=(1, 2)))

    in_world(scenario)


def request_for(model, version=None):
    return InferRequest("r", model, images(1), arrival_s=0.0, version=version)


def test_unknown_models_are_refused_and_counted_without_their_name():
    async def scenario(world):
        with pytest.raises(NotFound, match=f"expected one of: {FAMILY}"):
            await world.engine.infer(request_for("cat"))
        with pytest.raises(NotFound, match="version"):
            await world.engine.infer(request_for(FAMILY, "7"))
        assert world.value("adatape_requests_total", model="none", protocol="classify", outcome="not_found") == 1

    in_world(scenario)


def test_pending_work_is_bounded_and_the_retry_time_is_that_of_the_work():
    async def scenario(world):
        tasks = [asyncio.create_task(world.infer(images(127))) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="1 samples beside 20 pending; expected at most 20") as refusal:
            await world.infer(images(127))
        now = asyncio.get_running_loop().time()
        await asyncio.gather(*tasks)
        took_s = asyncio.get_running_loop().time() - now
        assert refusal.value.retry_after_s == pytest.approx(took_s, rel=0.5)
        await world.infer(images(127))

    in_world(scenario, max_pending_samples=20, max_request_samples=20)


def test_a_deadline_that_has_passed_is_refused():
    async def scenario(world):
        request = world.request(images(1), deadline_s=0.001)
        await asyncio.sleep(0.002)
        with pytest.raises(DeadlineExceeded):
            await world.engine.infer(request)
        assert world.instances.history == []
        assert world.value("adatape_requests_admitted_total", model=FAMILY) == 0

    in_world(scenario)


def test_a_deadline_that_cannot_be_made_is_told_at_once_and_never_run():
    async def scenario(world):
        long = asyncio.create_task(world.infer(random_images(200, seed=1)))
        await asyncio.sleep(1e-5)
        started_s = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded, match=r"got 0\.00012 s; expected at least 0\.001\d+ s, predicted"):
            await world.infer(images(127), deadline_s=0.00012)
        assert asyncio.get_running_loop().time() == started_s
        await long
        ran = {id(ticket.job) for execution in world.instances.history for ticket in execution.batch.tickets}
        assert len(ran) == 1

    in_world(scenario)


# --- Failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [RAISE_IN_READ, RAISE_IN_TRUNK])
def test_a_failing_batch_fails_its_own_requests_and_the_engine_goes_on(trouble, caplog):
    async def scenario(world):
        doomed = asyncio.create_task(world.infer(images(127, first=trouble)))
        await asyncio.sleep(1e-5)
        fine = asyncio.create_task(world.infer(images(127)))
        with pytest.raises(BackendFailed, match="execution; got RuntimeError"):
            await doomed
        assert (await fine).samples[0].receipt.tape_length == 8
        assert world.outcomes() == {"backend": 1, "ok": 1}

    in_world(scenario)
    assert "execution_failed" in caplog.text


@pytest.mark.parametrize("position", [0, 2, 4])
def test_nonsense_fails_the_request_it_belongs_to_alone(position):
    async def scenario(world):
        calls = [images(127, first=NAN_LOGITS if place == position else 1) for place in range(5)]
        results = await asyncio.gather(*map(world.infer, calls), return_exceptions=True)
        assert [isinstance(result, BackendFailed) for result in results] == [p == position for p in range(5)]
        assert "NaN or infinity" in str(results[position])

    in_world(scenario)


class Liar(type(TroubledBackend().load(MANIFEST))):
    """A model whose outputs break one promise of the graphs."""

    def __init__(self, lie):
        self._lie = lie
        self.is_lying = False

    def read(self, image_BHWC, max_tape_B1):
        reading = super().read(image_BHWC, max_tape_B1)
        if self.is_lying and self._lie == "hidden":
            reading = type(reading)(reading.hidden_BSD[:, :, :5], *list(vars_of(reading))[1:])
        if self.is_lying and self._lie == "tape_length":
            reading.tape_length_B1[:] = max_tape_B1 + 1
        return reading

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        logits_BC = super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        return logits_BC[:, :3] if self.is_lying and self._lie == "logits" else logits_BC


def vars_of(reading):
    return (getattr(reading, name) for name in reading.__dataclass_fields__)


@pytest.mark.parametrize("lie", ["hidden", "tape_length", "logits"])
def test_outputs_that_break_their_promise_are_errors(lie):
    liar = Liar(lie)

    class LiarBackend:
        def load(self, manifest):
            return liar

    async def scenario(world):
        liar.is_lying = True
        with pytest.raises(BackendFailed, match=lie):
            await world.infer(images(100), max_tape=8)
        liar.is_lying = False
        await world.infer(images(100))

    in_world(scenario, backend=LiarBackend())


# --- Cancels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize(("delay_s", "num_in_trunk"), [(0.0, 4), (2e-4, 4), (6e-4, 5)])
def test_a_cancel_disturbs_no_neighbour(position, delay_s, num_in_trunk):
    """At any position of a batch, whether the batch waits, is being read, or runs in the trunk."""
    batch = images(9, 19, 29, 39, 49)

    async def scenario(world):
        tasks = [asyncio.create_task(world.infer(image_HWC[None])) for image_HWC in batch]
        await asyncio.sleep(delay_s)
        tasks[position].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert world.outcomes() == {"ok": 4, "cancelled": 1}
        in_trunk = [len(e.batch.tickets) for e in world.instances.history if e.batch.stage is Stage.TRUNK]
        assert sum(in_trunk) == num_in_trunk  # none is sent on after it was cancelled
        return results

    for place, result in enumerate(in_world(scenario)):
        if place == position:
            assert isinstance(result, asyncio.CancelledError)
        else:
            np.testing.assert_array_equal(result.samples[0].logits_C, solo(batch[place]).logits_C)


def test_the_cancelled_leave_the_queue_before_they_run():
    async def scenario(world):
        first = asyncio.create_task(world.infer(images(127)))
        await asyncio.sleep(1e-5)
        gone = asyncio.create_task(world.infer(random_images(40, seed=1)))
        await asyncio.sleep(1e-5)
        gone.cancel()
        await first
        assert world.engine.num_pending == 0
        assert sum(len(e.batch.tickets) for e in world.instances.history) == 2

    in_world(scenario)


def test_a_cancel_in_the_turn_of_the_answer_is_a_cancel():
    async def scenario(world):
        task = asyncio.create_task(world.infer(images(127)))
        await asyncio.sleep(3e-4)
        execution = world.instances.history[-1]
        assert execution.batch.stage is Stage.TRUNK
        task.cancel()
        world.engine._dispatcher._on_done(execution)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1.0)
        assert world.outcomes() == {"cancelled": 1}

    in_world(scenario)


# --- Start and drain ---------------------------------------------------------------------------


def engine_of(repository, backend=None):
    from server.engine import Engine

    loop = asyncio.get_running_loop()
    return Engine(
        repository,
        backend or TroubledBackend(),
        Metrics(),
        Settings(backend="fake"),
        instances=SimulatedInstances(),
        clock=loop.time,
    )


def test_ready_only_between_start_and_drain():
    async def main():
        engine = engine_of(Repository(None, builtin=[MANIFEST]))
        assert not engine.is_ready
        with pytest.raises(Unavailable, match="starting"):
            await engine.infer(request_for(FAMILY))
        await engine.start()
        assert engine.is_ready
        assert engine.device == "FakeExecutionProvider"
        await engine.drain(1.0)
        assert not engine.is_ready
        with pytest.raises(Draining) as refusal:
            await engine.infer(request_for(FAMILY))
        assert refusal.value.retry_after_s is not None

    simulate(main())


def test_an_engine_without_families_is_not_ready():
    async def main():
        engine = engine_of(Repository(None))
        await engine.start()
        assert not engine.is_ready
        assert engine.device == "none"

    simulate(main())


def test_a_family_that_does_not_load_leaves_the_others_served(caplog):
    class Picky(TroubledBackend):
        def load(self, manifest):
            if manifest.family == "adatape_bad":
                raise BackendFailed("graph", "rubbish", "ONNX")
            return super().load(manifest)

    async def main():
        engine = engine_of(Repository(None, builtin=[fake_manifest("adatape_bad"), MANIFEST]), Picky())
        await engine.start()
        assert engine.is_ready
        with pytest.raises(ModelNotReady, match="adatape_bad version 1"):
            await engine.infer(request_for("adatape_bad"))

    simulate(main())
    assert "family_not_loaded family=adatape_bad" in caplog.text


def test_a_broken_family_is_named_with_its_reason_at_start(caplog, tmp_path):
    folder = tmp_path / "adatape_torn" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")

    async def main():
        await engine_of(Repository(tmp_path)).start()

    simulate(main())
    assert "family_broken family=adatape_torn/1 reason=" in caplog.text


def test_an_older_version_exists_but_is_not_loaded():
    async def main():
        engine = engine_of(Repository(None, builtin=[fake_manifest(version="1"), fake_manifest(version="2")]))
        await engine.start()
        with pytest.raises(ModelNotReady, match="version 1; expected version 2, which is loaded"):
            await engine.infer(request_for(FAMILY, "1"))

    simulate(main())


def test_drain_finishes_what_was_accepted():
    async def scenario(world):
        tasks = [asyncio.create_task(world.infer(random_images(30, seed))) for seed in range(5)]
        await asyncio.sleep(1e-5)
        assert await world.engine.drain(10.0) == 0
        assert len(await asyncio.gather(*tasks)) == 5

    in_world(scenario)


def test_drain_fails_clearly_what_does_not_finish_in_time():
    async def scenario(world):
        tasks = [asyncio.create_task(world.infer(random_images(200, seed))) for seed in range(3)]
        await asyncio.sleep(1e-5)
        started_s = asyncio.get_running_loop().time()
        num_failed = await world.engine.drain(0.001)
        assert asyncio.get_running_loop().time() - started_s == pytest.approx(0.001)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [Draining] * 3
        assert num_failed == 3

    in_world(scenario)


def test_drain_of_an_idle_engine_is_immediate():
    in_world(lambda world: world.engine.drain(0.0))


# --- Real threads ------------------------------------------------------------------------------


async def test_real_instances_answer_many_at_once_without_cross_talk():
    """Real time, real threads: each of many distinct images gets its own answer."""
    from server.engine import build_engine

    engine = build_engine(Settings(backend="fake", num_instances=3), Metrics())
    await engine.start()
    batch = random_images(300, seed=5)
    loop = asyncio.get_running_loop()
    requests = [
        InferRequest(f"r{place}", FAMILY, image_HWC[None], loop.time()) for place, image_HWC in enumerate(batch)
    ]
    answers = await asyncio.gather(*map(engine.infer, requests))
    for image_HWC, answer in zip(batch, answers, strict=True):
        sample = answer.samples[0]
        expected_C = image_HWC.ravel()[:10] / 255 * (1 + sample.receipt.tape_length)
        np.testing.assert_allclose(sample.logits_C, expected_C, rtol=1e-5)
        assert sample.receipt.bucket in BUCKETS
    assert await engine.drain(5.0) == 0


def test_predictions_learn_what_an_execution_keeps_from_others_not_what_its_graphs_take():
    """A busy event loop takes each execution back half a millisecond late; what waits behind it waits that long."""
    late_s, num_calls = 0.5e-3, 200

    async def scenario(world):
        instances = world.instances

        def take_back(execution, done):
            execution.finished_s = asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_later(late_s, give_back, execution, done)

        def give_back(execution, done):
            instances.num_running -= 1
            done(execution)

        instances._finish = take_back
        for image_HWC in random_images(num_calls, 1):
            await world.infer(image_HWC[None])
        latency = world.engine.shelf.families[FAMILY].costs.latency
        fresh = LatencyModel(fake_manifest())
        assert latency.predict_s("read", 0, 1) == pytest.approx(fresh.predict_s("read", 0, 1) + late_s, rel=0.02)
        stages = [world.value("adatape_execution_seconds_count", model=FAMILY, stage="read", bucket="0")]
        assert stages == [num_calls]
        read_s = world.value("adatape_execution_seconds_sum", model=FAMILY, stage="read", bucket="0")
        assert read_s == pytest.approx(num_calls * fresh.predict_s("read", 0, 1), rel=1e-6)

    in_world(scenario)
