"""Tenants under contention, through the whole engine in fake time: nobody is starved, nobody is locked out."""

import asyncio

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.engine.standing import FULL, ROOM, Rival, Standing
from server.errors import Overloaded, QuotaExceeded
from server.scheduler import Share, part_ahead
from tests.server.simulation import random_images
from tests.server.tenancy.tenants import access
from tests.server.test_engine import in_world


def in_tenants_world(scenario, folder, *, limits=None, **options):
    async def closing(world):
        result = await scenario(world)
        await world.engine.tenancy.stop()
        return result

    return in_world(closing, **access(folder, limits=limits), **options)


async def timed(world, tenant, num_images=1, seed=0, **ask):
    """Return how long an answer takes a tenant."""
    started_s = asyncio.get_running_loop().time()
    await world.infer(random_images(num_images, seed), tenant=tenant, **ask)
    return asyncio.get_running_loop().time() - started_s


async def flood(world, tenant, num_requests, num_images=16):
    """Send much at once; return the tasks once all are in or refused."""
    tasks = [
        asyncio.create_task(world.infer(random_images(num_images, seed), tenant=tenant)) for seed in range(num_requests)
    ]
    await asyncio.sleep(1e-6)
    return tasks


def test_a_small_tenant_hardly_feels_a_flood(tmp_path):
    async def scenario(world):
        alone_s = await timed(world, "zeta")
        tasks = await flood(world, "acme", 40)
        seen_s = [await timed(world, "zeta", seed=seed) for seed in range(10)]
        assert not all(task.done() for task in tasks), "the flood ended first"
        await asyncio.gather(*tasks)
        return alone_s, seen_s

    alone_s, seen_s = in_tenants_world(scenario, tmp_path)
    # At most one execution runs when it comes, and its own two may carry riders.
    assert max(seen_s) <= 40 * alone_s
    assert np.median(seen_s) <= 20 * alone_s


def test_under_contention_flops_go_by_weight(tmp_path):
    async def scenario(world):
        tasks = [*await flood(world, "acme", 60, 8), *await flood(world, "zeta", 60, 8)]
        meters = [world.engine.tenancy.account(name).unsent_usage("adatape_fake") for name in ("acme", "zeta")]
        while not any(usage.num_requests >= 40 for usage in meters):  # noqa: ASYNC110 - fake time
            await asyncio.sleep(1e-4)
        had = [usage.useful_flops for usage in meters]
        await asyncio.gather(*tasks)
        return had

    acme, zeta = in_tenants_world(scenario, tmp_path, limits={"acme": "weight = 3"})
    assert acme / zeta == pytest.approx(3, rel=0.3)


@pytest.mark.parametrize(
    "limit", [{"max_pending_samples": 512}, {"max_pending_s": 0.01}, {"slo_ms": 20.0}], ids=["samples", "s", "slo"]
)
def test_a_flood_that_is_shed_leaves_room_for_others(tmp_path, limit):
    async def scenario(world):
        tasks = await flood(world, "acme", 100)
        small = [asyncio.create_task(world.infer(random_images(1, seed), tenant="zeta")) for seed in range(5)]
        for outcome in await asyncio.gather(*small):
            assert len(outcome.samples) == 1
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(outcome, Overloaded) for outcome in outcomes)

    in_tenants_world(scenario, tmp_path, **limit)


@given(
    floods=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 32)), min_size=1, max_size=12),
    weight=st.sampled_from((0.5, 1, 4)),
)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
def test_a_greedy_tenant_cannot_starve_a_small_one(tmp_path, floods, weight):
    """Whatever a greedy tenant sends, the small one's requests are all answered, each within a bounded time."""

    async def scenario(world):
        alone_s = await timed(world, "zeta")
        tasks = []
        for num_requests, num_images in floods:
            tasks += await flood(world, "acme", num_requests, num_images)
            seen_s = await timed(world, "zeta")
            assert seen_s <= 60 * max(1.0, weight) * alone_s
        await asyncio.gather(*tasks, return_exceptions=True)

    limits = {"acme": f"weight = {weight}"}
    in_tenants_world(scenario, tmp_path, limits=limits, max_pending_samples=1024, max_pending_s=0.05)


def test_a_tenants_floor_holds_under_load(tmp_path):
    async def scenario(world):
        tasks = [*await flood(world, "acme", 20), *await flood(world, "zeta", 20)]
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        caps = [
            {sample.receipt.cap for answer in half if not isinstance(answer, Exception) for sample in answer.samples}
            for half in (answers[:20], answers[20:])
        ]
        return [min(each, default=99) for each in caps]

    acme, zeta = in_tenants_world(scenario, tmp_path, limits={"acme": "min_tape = 8"}, slo_ms=20.0)
    assert acme >= 8
    assert zeta < 8


def test_a_spent_quota_comes_back_when_it_says(tmp_path):
    async def scenario(world):
        loop = asyncio.get_running_loop()
        while True:
            try:
                await world.infer(random_images(1, 1), tenant="acme", max_tape=0)
            except QuotaExceeded as refusal:
                await asyncio.sleep(refusal.retry_after_s * 0.99)
                with pytest.raises(QuotaExceeded):
                    await world.infer(random_images(1, 1), tenant="acme", max_tape=0)
                await asyncio.sleep(refusal.retry_after_s * 0.02)
                await world.infer(random_images(1, 1), tenant="acme", max_tape=0)
                return loop.time()

    in_tenants_world(scenario, tmp_path, limits={"acme": "flops_per_s = 1000\nburst_flops = 10000"})


weights = st.floats(0.01, 1000)


@given(st.integers(1, 1000), st.integers(0, 1000), weights, weights)
def test_the_part_ahead_is_a_part(own, others, weight, rest):
    part = part_ahead(own, own + others, weight, weight + rest)
    assert 0 < part <= 1
    assert part_ahead(own, own, weight, weight) == 1


@given(st.lists(weights, min_size=2, max_size=6), st.integers(10, 10_000), st.integers(1, 64))
def test_greed_never_fills_the_room(weights, limit, step):
    """However much each sends, the room that is left is at least what a newcomer of any weight is worth."""
    held = [0] * len(weights)
    moved = True
    while moved:
        moved = False
        for place, weight in enumerate(weights):
            rivals = [Rival(num, w) for num, w in zip(held, weights, strict=True)]
            standing = Standing(Share(weight), 0, held[place], lambda rivals=rivals: rivals)
            if held[place] + step <= min(standing.may_hold(sum(held), limit), limit - sum(held) + held[place]):
                held[place] += step
                moved = True
    free = limit - sum(held)
    assert free >= limit * FULL / (1 + ROOM * len(weights)) - step


def test_a_lone_tenant_takes_all_the_room():
    alone = Standing(Share(), 0, 900, lambda: [Rival(900, 1.0)])
    assert alone.may_hold(900, 1000) == 1000
    assert alone.ahead(1, 900) == 1.0
