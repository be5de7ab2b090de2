"""The threads that load models, and that stand back once requests are being answered."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LAST = 19
"""The niceness of what comes last: it gets about a sixtieth of a core that others want too."""


class Background:
    """One thread that loads and one that reads the disk.

    Loading always takes the same thread: each has a heap of its own, and what one has freed, the others do not use.
    """

    def __init__(self, num_threads: int) -> None:
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="scan", initializer=stand_back)
        # Sessions with threads of their own hand their niceness on to these for good.
        self._may_stand_back = num_threads == 1

    async def load(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Run what loads a model."""
        return await asyncio.get_running_loop().run_in_executor(self._loader, work, *arguments)

    async def read(self, work: Callable[[Unpack[Ts]], T], *arguments: *Ts) -> T:
        """Run what reads much of the disk while others are answered; from now on loading stands back too."""
        if self._may_stand_back:
            await self.load(stand_back)
        return await asyncio.get_running_loop().run_in_executor(self._reader, work, *arguments)

    def later(self, work: Callable[[], None], delay_s: float) -> None:
        """Run something short after a while: at once then, for it may hold what others wait for."""
        loop = asyncio.get_running_loop()
        loop.call_later(delay_s, loop.run_in_executor, None, work)


def stand_back() -> None:
    """Let everything else go before this thread, for good, and before the threads that it starts."""
    if sys.platform == "linux":  # elsewhere niceness belongs to whole processes
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LAST)
