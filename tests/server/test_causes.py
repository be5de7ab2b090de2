"""The engine tells the metrics why: which limit, which moment, which work for nothing."""

import asyncio

import pytest

from server.backends.fake import FAMILY
from server.errors import DeadlineExceeded, Overloaded
from tests.server.simulation import images, open_world


async def refused(world, error, **ask):
    with pytest.raises(error):
        await world.infer(images(100), **ask)


async def test_a_full_queue_sheds_by_samples():
    world = await open_world(max_pending_samples=2, max_request_samples=2)
    waiting = asyncio.create_task(world.infer(images(100, 100)))
    await asyncio.sleep(0)
    await refused(world, Overloaded)
    assert world.value("adatape_shed_total", model=FAMILY, cause="samples") == 1
    await waiting


async def test_a_deadline_that_cannot_be_made_expires_at_admission():
    world = await open_world()
    await refused(world, DeadlineExceeded, deadline_s=1e-6)
    assert world.value("adatape_expired_total", model=FAMILY, cause="admission") == 1


async def test_a_caller_who_leaves_is_cancelled_by_how_far_it_came():
    world = await open_world()
    task = asyncio.create_task(world.infer(images(100)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.value("adatape_cancelled_total", model=FAMILY, cause="waiting") == 1


async def test_what_is_asked_for_is_demanded_whether_or_not_it_is_let_in():
    world = await open_world()
    await world.infer(images(100), max_tape=4)
    demanded = world.value("adatape_demanded_flops_total", model=FAMILY)
    await refused(world, DeadlineExceeded, max_tape=4, deadline_s=1e-6)
    assert world.value("adatape_demanded_flops_total", model=FAMILY) == pytest.approx(2 * demanded, rel=1e-3)
    assert world.value("adatape_capacity_flops_per_second", model=FAMILY) > 0


async def test_executed_flops_are_those_of_the_receipts():
    world = await open_world()
    answer = await world.infer(images(100, 200))
    places = [("embed", "0"), ("read", "0"), *(("trunk", bucket) for bucket in ("0", "4", "8", "16"))]
    executed = sum(
        world.value("adatape_executed_flops_total", model=FAMILY, stage=stage, bucket=bucket)
        for stage, bucket in places
    )
    assert executed == sum(sample.receipt.executed_flops for sample in answer.samples)


async def test_lanes_are_empty_once_all_is_answered():
    world = await open_world()
    await world.infer(images(100))
    for stage, bucket in (("embed", "0"), ("read", "0"), ("trunk", "8")):
        assert world.value("adatape_waiting_samples", model=FAMILY, stage=stage, bucket=bucket) == 0
    assert world.value("adatape_executions_running") == 0
