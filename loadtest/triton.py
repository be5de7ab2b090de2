"""A Triton that a gateway uses: it can be paused, killed and started again."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtest.machine import free_ports
from loadtest.process import Process


class Triton:
    """One Triton on free ports of the loopback address, not started yet."""

    def __init__(self, command: str, repository: Path, *flags: str) -> None:
        ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports.values())
        named = [f"--{name}-port={port}" for name, port in ports.items()]
        self._command = [*shlex.split(command), "--repository", str(repository), *named, *flags]
        self._running: Process | None = None

    @property
    def running(self) -> Process:
        assert self._running is not None, "A Triton was used before it was started. This is a bug."
        return self._running

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self._running = Process(self._command)
        self._running.wait_for_log("Started Metrics Service")

    def pause(self) -> None:
        """Stop it from running, so that it accepts requests and does nothing.

        Only the server stops, not its stubs: a Python backend takes a stub that stood still for dead when both go on,
        and may break down over it.
        """
        self.running.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.running.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self.running.process.kill()
        self.running.close()

    def stop(self) -> None:
        """Stop it, if it was started."""
        if self._running is not None:
            self._running.close()


@contextmanager
def start_triton(command: str, repository: Path, *flags: str) -> Iterator[Triton]:
    """Start a Triton of a repository, wait until it is ready, and stop it in the end."""
    triton = Triton(command, repository, *flags)
    try:
        triton.start()
        yield triton
    finally:
        triton.stop()
