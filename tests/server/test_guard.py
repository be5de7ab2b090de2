"""Capped answers that are run again at full tape when idle, in fake time."""

import asyncio

import pytest

from server.backends.fake import FAMILY, fake_manifest
from server.engine.guard import HOLD_S, IDLE_S, MAX_SHADOWS, MIN_COMPARED, Agreement
from server.scheduler import Stage
from tests.server.simulation import (
    RAISE_IN_READ,
    RAISE_IN_TRUNK,
    TroubledBackend,
    TroubledModel,
    images,
    random_images,
)
from tests.server.test_engine import in_world

MANIFEST = fake_manifest()
FULL_FLOPS = MANIFEST.flops.read_executed(is_reading=True) + MANIFEST.flops.trunk[16]


class Fickle(TroubledModel):
    """A model whose class depends on the tape: below 8 tokens it names the opposite end of the list."""

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        logits_BC = super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        return logits_BC if len(tape_length_B1) == 0 else logits_BC * (1 - 2 * (tape_length_B1 < 8))


class FickleBackend(TroubledBackend):
    def load(self, manifest):
        return Fickle()


def guard_of(world):
    return world.engine.shelf.families[FAMILY].guard


def shadow_executions(world):
    """Return what ran without any answer to show for it."""
    return [e for e in world.instances.history if not e.batch.tickets[0].job.is_settled]


async def ask(world, number, **options):
    """Ask for single images, one after another, with pauses in which the device is idle."""
    for seed in range(number):
        await world.infer(random_images(1, seed) // 2 + 120, **options)
        await asyncio.sleep(0.05)


def shadow_flops(world):
    return world.value("adatape_flops_total", model=FAMILY, kind="shadow")


def test_a_capped_answer_is_compared_with_full_tape_when_idle():
    async def scenario(world):
        answer = await world.infer(images(252), max_tape=4)
        assert shadow_executions(world) == []
        await asyncio.sleep(0.05)
        assert [(e.batch.stage, e.batch.bucket) for e in shadow_executions(world)] == [
            (Stage.READ, 0),
            (Stage.TRUNK, 16),
        ]
        labels = {"model": FAMILY, "cap": "4"}
        assert world.value("adatape_shadow_comparisons_total", result="same", **labels) == 1
        assert world.value("adatape_shadow_agreement_ratio", **labels) == 1
        assert shadow_flops(world) == FULL_FLOPS
        kinds = ("useful", "padding", "wasted")
        answered = sum(world.value("adatape_flops_total", model=FAMILY, kind=kind) for kind in kinds)
        assert answered == answer.samples[0].receipt.executed_flops
        assert world.value("adatape_inferences_total", model=FAMILY) == 1

    in_world(scenario, shadow_share=1.0)


def test_what_no_cap_shortened_needs_no_second_run():
    async def scenario(world):
        await world.infer(images(252))
        await world.infer(images(30), max_tape=4)  # wants 1
        await asyncio.sleep(0.05)
        assert shadow_executions(world) == []
        assert guard_of(world).agreements[4].num_compared == 1

    in_world(scenario, shadow_share=1.0)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.25, 5, 40), (1.0, 80, 80)])
def test_the_share_that_is_compared(share, least, most):
    async def scenario(world):
        await ask(world, 80, max_tape=4)
        guard = guard_of(world)
        assert least <= (guard.agreements[4].num_compared if guard else 0) <= most

    in_world(scenario, shadow_share=share)


def test_work_never_waits_for_more_than_the_stage_that_runs():
    async def scenario(world):
        await world.infer(images(252), max_tape=4)
        await asyncio.sleep(IDLE_S + 1e-5)
        assert [e.batch.stage for e in shadow_executions(world)] == [Stage.READ]
        answer = await world.infer(images(252))
        await asyncio.sleep(0.05)
        assert answer.samples[0].receipt.queue_s <= 160e-6 + 1e-9
        assert [e.batch.stage for e in shadow_executions(world)] == [Stage.READ]
        assert guard_of(world).agreements[4].num_compared == 0

    in_world(scenario, shadow_share=1.0)


def test_a_busy_device_runs_no_shadows_and_keeps_few():
    async def scenario(world):
        calls = [world.infer(random_images(8, seed), max_tape=2) for seed in range(30)]
        await asyncio.gather(*calls)
        assert shadow_executions(world) == []
        assert len(guard_of(world)._shadows) <= MAX_SHADOWS
        assert all(len(shadow.pixels_1X) == 1 and shadow.pixels_1X.base is None for shadow in guard_of(world)._shadows)
        await world.engine.drain(1.0)

    in_world(scenario, shadow_share=1.0)


@pytest.mark.parametrize("trouble", [RAISE_IN_READ, RAISE_IN_TRUNK])
def test_a_shadow_that_fails_disturbs_nobody(trouble, caplog):
    async def scenario(world):
        await world.infer(images(252), max_tape=4)
        (shadow,) = guard_of(world)._shadows
        shadow.pixels_1X[:, 0, 0, 0] = trouble
        await asyncio.sleep(0.05)
        assert guard_of(world).agreements[4].num_compared == 0
        await world.infer(images(252))

    in_world(scenario, shadow_share=1.0)
    assert "shadow_failed" in caplog.text


def test_poor_agreement_holds_the_controller_back_for_a_while(caplog):
    async def scenario(world):
        family = world.engine.shelf.families[FAMILY]
        await ask(world, MIN_COMPARED, max_tape=4)
        assert family.guard.agreements[4].ratio == 0
        assert family.guard.least_cap(family.pilot.caps) == 8
        family.pilot.hold_back(8)
        family.pilot.steer(asyncio.get_running_loop().time(), [9.0] * 4, 1)
        assert (family.pilot.cap, family.pilot.least_cap) == (8, 8)
        await asyncio.sleep(HOLD_S)
        assert family.guard.least_cap(family.pilot.caps) == 0
        assert family.guard.agreements[4].num_compared == 0

    in_world(scenario, backend=FickleBackend(), shadow_share=1.0, min_agreement=0.9, slo_ms=50)
    assert "cap_held_back model=adatape_fake cap=4 agreement=0.000 least=0.900" in caplog.text


def test_overload_respects_what_is_held_back():
    async def scenario(world):
        await ask(world, MIN_COMPARED, max_tape=4)
        calls = [world.infer(random_images(8, seed) // 2 + 120) for seed in range(60)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        caps = {
            sample.receipt.cap for answer in answers if not isinstance(answer, Exception) for sample in answer.samples
        }
        assert min(caps) == 8

    in_world(scenario, backend=FickleBackend(), shadow_share=1.0, min_agreement=0.9, slo_ms=20)


def test_unloading_forgets_the_shadows():
    async def scenario(world):
        await world.infer(images(252), max_tape=4)
        await world.engine.shelf.unload(FAMILY)
        await asyncio.sleep(0.05)
        assert shadow_executions(world) == []

    in_world(scenario, shadow_share=1.0)


def test_agreement_follows_what_is_recent():
    agreement = Agreement()
    assert agreement.ratio == 1
    for is_same in [True] * 1000 + [False] * 2000:
        agreement.add(is_same=is_same)
    assert agreement.ratio < 0.05
    assert agreement.num_compared == 3000
