"""Clients that disconnect before their answer."""

import asyncio

import pytest

from server.errors import Cancelled
from server.http.body_memory import BodyMemory
from server.http.exchange import HttpRequest, while_connected
from tests.server.surface import Wire, scope


class Stuck:
    """An engine that never answers, and stores whether it was cancelled."""

    def __init__(self) -> None:
        self.was_cancelled = False

    async def infer(self, request):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


def make_call(wire):
    return HttpRequest(scope(), wire.receive, request_id="1", arrival_s=0, body_memory=BodyMemory(10))


async def test_a_client_that_leaves_takes_its_request_back():
    engine = Stuck()
    with pytest.raises(Cancelled):
        await while_connected(make_call(Wire({"type": "http.disconnect"})), engine.infer(None))
    assert engine.was_cancelled
    assert asyncio.current_task().cancelling() == 0


class Silent(Wire):
    async def receive(self):
        return await asyncio.Event().wait()


async def test_a_cancel_from_elsewhere_stays_a_cancel():
    engine = Stuck()
    task = asyncio.create_task(while_connected(make_call(Silent()), engine.infer(None)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.was_cancelled


async def test_the_watch_for_a_departure_ends_with_the_answer():
    class Prompt:
        async def infer(self, request):
            return request

    before = len(asyncio.all_tasks())
    assert await while_connected(make_call(Silent()), Prompt().infer("answer")) == "answer"
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
