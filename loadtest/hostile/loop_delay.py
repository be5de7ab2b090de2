"""Measures from outside how long one message blocks the event loop of a server.

A probe asks `/healthz`, which the loop answers itself, again and again over one connection. Between two answers the
loop was blocked for no longer than the clock says, and for no longer than the server used the processor, in any thread
that may hold the interpreter: the smaller of the two is the delay of that interval. So neither other programs, which
take time from the clock alone, nor threads that run beside the loop, which take processor time alone, count for what
they are not. A thread that runs beside the loop while another program has the loop's core does, which is why the median
of several tries is judged. The threads of gRPC's core never hold the interpreter; they have names of their own.
"""

import socket
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_PROBE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
_SETTLE_S = 0.2
"""How long the loop is watched after a message was answered: what it leaves behind is cleared away then."""


class LoopDelay(NamedTuple):
    """The longest interval between two answers. Units: ms; `of_loop_ms` is processor time of the loop's thread."""

    ms: float
    of_loop_ms: float


class LoopProbe:
    """Measures one server while its `with` block runs."""

    def __init__(self, address: tuple[str, int], pid: int) -> None:
        self._address = address
        self._tasks, self._loop_thread = Path(f"/proc/{pid}/task"), str(pid)
        self._is_over = threading.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self.delay = LoopDelay(0.0, 0.0)

    def __enter__(self) -> Self:
        self._thread.start()
        self._has_begun.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        time.sleep(_SETTLE_S)
        self._is_over.set()
        self._thread.join()

    def _measure(self) -> None:
        with closing(socket.create_connection(self._address)) as connection:
            connection.sendall(_PROBE)
            connection.recv(4096)
            last = self._now()
            self._has_begun.set()
            with suppress(ConnectionError):
                while not self._is_over.is_set():
                    connection.sendall(_PROBE)
                    if not connection.recv(4096):
                        return
                    now = self._now()
                    wall, process, loop = (1000 * (b - a) for a, b in zip(last, now, strict=True))
                    self.delay = LoopDelay(max(self.delay.ms, min(wall, process)), max(self.delay.of_loop_ms, loop))
                    last = now

    def _now(self) -> tuple[float, float, float]:
        """Return the clock, and the processor time of the server and of its loop's thread, in seconds."""
        times_s = {}
        name = (self._tasks / self._loop_thread / "comm").read_text(encoding="ascii")
        for task in self._tasks.iterdir():
            with suppress(OSError):  # a thread that has ended
                if (task / "comm").read_text(encoding="ascii") == name:
                    times_s[task.name] = int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        return time.monotonic(), sum(times_s.values()), times_s[self._loop_thread]
