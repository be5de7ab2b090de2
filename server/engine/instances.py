"""Instances: what lets several executions run at once, off the event loop."""

import asyncio
from collections.abc import Callable
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

    def stop(self) -> None:
        """Take no more; executions in flight still finish and are still reported."""
        ...


class ThreadInstances:
    """Worker threads that share one backend: its sessions release the interpreter lock while they run."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._work: SimpleQueue[tuple[Execution, Done] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; they report to the running event loop."""
        self._loop = loop = asyncio.get_running_loop()
        for number in range(self.size):
            Thread(target=self._serve, args=(loop,), name=f"instance-{number}", daemon=True).start()

    def submit(self, execution: Execution, done: Done) -> None:
        self._work.put((execution, done))

    def stop(self) -> None:
        for _ in range(self.size):
            self._work.put(None)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        while (work := self._work.get()) is not None:
            execution, done = work
            execution.run()
            if loop.is_closed():
                return
            loop.call_soon_threadsafe(done, execution)
