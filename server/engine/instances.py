"""Instances: what lets several executions run at once, off the event loop."""

import asyncio
from collections.abc import Callable
from itertools import count
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from server.engine.execution import Execution

Done = Callable[[Execution], None]


class Instances(Protocol):
    """Runs at most `size` executions at once; the engine never hands it more."""

    size: int

    def start(self) -> None: ...

    def submit(self, execution: Execution, done: Done) -> None:
        """Run an execution, then call `done` with it on the event loop."""
        ...

    def replace(self) -> None:
        """Put a new instance in the place of one whose execution was given up."""
        ...

    def stop(self) -> None:
        """Take no more; executions in flight still finish and are still reported."""
        ...


class ThreadInstances:
    """Worker threads that share one backend: its sessions release the interpreter lock while they run."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._work: SimpleQueue[tuple[Execution, Done] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = count()

    def start(self) -> None:
        """Start the threads; they report to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self.size):
            self.replace()

    def replace(self) -> None:
        """Start a thread; one whose execution was given up ends by itself, if it ever comes back."""
        assert self._loop is not None, "Instances are replaced while they run. This is a bug."
        name = f"instance-{next(self._numbers)}"
        Thread(target=self._serve, args=(self._loop,), name=name, daemon=True).start()

    def submit(self, execution: Execution, done: Done) -> None:
        self._work.put((execution, done))

    def stop(self) -> None:
        for _ in range(self.size):
            self._work.put(None)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (work := self._work.get()) is not None:
            execution, done = work
            execution.run()
            if loop.is_closed() or not execution.is_over:
                return
            loop.call_soon_threadsafe(done, execution)
            del work, execution, done  # an idle instance holds on to no batch, and to no family
