"""What loads and reads beside the requests: who stands back, and since when."""

import os
import sys
import threading

import pytest

from server.engine.background import LAST, Background

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="niceness belongs to whole processes here")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_loading_stands_back_once_others_are_answered_and_not_at_the_start():
    background, before = Background(1), niceness()
    assert await background.load(niceness) == before
    assert await background.read(niceness) == LAST
    assert await background.load(niceness) == LAST
    assert niceness() == before


async def test_sessions_with_threads_of_their_own_are_opened_as_ever():
    background, before = Background(2), niceness()
    assert await background.read(niceness) == LAST
    assert await background.load(niceness) == before


async def test_all_loading_is_done_by_one_thread():
    background = Background(1)
    first = await background.load(threading.get_ident)
    await background.read(int)
    assert await background.load(threading.get_ident) == first
