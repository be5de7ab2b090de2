"""The doors of the server: who is inside is waited for, up to one moment, and told when it has come."""

import asyncio

import pytest

from server.engine.drain_gate import LAST_WORDS_S, DrainGate
from server.errors import Draining
from tests.server.simulation import simulate


class Scene:
    """Doors in fake time, and calls that take so long."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.drain_gate = DrainGate(self.loop.time)

    def call(self, seconds, *, reply_s=0.0):
        return asyncio.create_task(self._call(seconds, reply_s))

    async def _call(self, seconds, reply_s):
        inside = self.drain_gate.enter(self.loop.time())
        try:
            await asyncio.sleep(seconds)
            outcome = "answered" if inside else "late"
        except asyncio.CancelledError:
            refusal = self.drain_gate.refusal()
            if refusal is None:
                raise
            outcome = str(refusal)
        self.drain_gate.reply(inside)
        await asyncio.sleep(reply_s)
        self.drain_gate.leave(inside)
        return outcome


def play(scenario):
    async def main():
        await scenario(Scene())

    simulate(main())


def test_closed_doors_wait_for_those_inside_and_for_nobody_else():
    async def scenario(scene):
        calls = [scene.call(1), scene.call(2, reply_s=1)]
        await asyncio.sleep(0)
        scene.drain_gate.close()
        calls.append(scene.call(9))
        started_s = scene.loop.time()
        await scene.drain_gate.wait_empty(30)
        assert scene.loop.time() - started_s == pytest.approx(3)
        assert await scene.drain_gate.abandon() == 0
        assert [await call for call in calls] == ["answered", "answered", "late"]

    play(scenario)


def test_when_the_time_is_up_each_is_told_once_and_who_has_an_answer_is_left_alone():
    async def scenario(scene):
        calls = [scene.call(1), scene.call(60), scene.call(60), scene.call(4, reply_s=3)]
        await asyncio.sleep(0)
        scene.drain_gate.close()
        await scene.drain_gate.wait_empty(5)
        assert await scene.drain_gate.abandon() == 2
        told = "request; got unfinished after 5 s; expected to finish in time"
        assert [await call for call in calls] == ["answered", told, told, "answered"]
        assert await scene.drain_gate.abandon() == 0

    play(scenario)


def test_who_does_not_go_when_told_keeps_nobody_for_long():
    async def scenario(scene):
        async def stubborn():
            scene.drain_gate.enter(scene.loop.time())
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    if is_over:
                        raise

        is_over = False
        call = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        scene.drain_gate.close()
        await scene.drain_gate.wait_empty(1)
        started_s = scene.loop.time()
        assert await scene.drain_gate.abandon() == 1
        assert scene.loop.time() - started_s == pytest.approx(LAST_WORDS_S)
        is_over = True
        call.cancel()

    play(scenario)


def test_a_hurry_ends_the_wait():
    async def scenario(scene):
        call = scene.call(60)
        await asyncio.sleep(0)
        scene.drain_gate.close()
        scene.loop.call_later(2, scene.drain_gate.hurry)
        started_s = scene.loop.time()
        await scene.drain_gate.wait_empty(30)
        assert scene.loop.time() - started_s == pytest.approx(2)
        await scene.drain_gate.abandon()
        assert "stopped at once" in await call

    play(scenario)


def test_a_caller_that_leaves_is_not_told_of_the_doors():
    async def scenario(scene):
        call = scene.call(60)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    play(scenario)


def test_who_comes_late_is_refused_with_a_time_to_try_elsewhere():
    async def scenario(scene):
        scene.drain_gate.check(scene.loop.time())
        scene.drain_gate.close()
        scene.drain_gate.check(scene.loop.time() - 1)
        with pytest.raises(Draining, match="server; got draining; expected ready") as refusal:
            scene.drain_gate.check(scene.loop.time())
        assert refusal.value.retry_after_s

    play(scenario)
