"""A Triton that a gateway uses, which can be stopped in its tracks, killed and started again."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtest.machine import free_ports
from loadtest.serving import Served

_READY = "Started Metrics Service"


class Triton:
    """One process, and those that it starts: a group of their own."""

    def __init__(self, command: str, repository: Path) -> None:
        http, self._grpc, metrics = free_ports(3)
        ports = [f"--http-port={http}", f"--grpc-port={self._grpc}", f"--metrics-port={metrics}"]
        self._command = [*shlex.split(command), "--repository", str(repository), *ports]
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._grpc}"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._process = process
        self._served = Served(process)
        self._served.wait(_READY)

    def pause(self) -> None:
        """Let it take calls and do nothing.

        Only the server stops, not its stubs: a Python backend takes a stub that stood still for dead when both go on,
        and may break down over it.
        """
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._served.join()


@contextmanager
def running(command: str, repository: Path) -> Iterator[Triton]:
    """Start a Triton of a repository, and end it in the end."""
    triton = Triton(command, repository)
    try:
        yield triton
    finally:
        triton.kill()
