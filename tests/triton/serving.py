"""A real Triton process on loopback, as `make triton` starts it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loadtest.machine import free_ports
from tests.e2e.booting import ROOT

PYTHON = ROOT / ".venv-triton/bin/python"
START_S = 120.0
STOP_S = 60.0


class Triton:
    """One Triton: its addresses, its process and all that it has logged. It may be killed and started again."""

    def __init__(self, repository: Path, *flags: str) -> None:
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in free_ports(3))
        self._command = [
            *(str(PYTHON), str(ROOT / "deploy/triton/serve.py"), "--repository", str(repository)),
            *("--backends", str(ROOT / "tests/triton/backends")),
            *(f"--{name}-port={getattr(self, name).partition(':')[2]}" for name in ("http", "grpc", "metrics")),
            *flags,
        ]
        self.lines: list[str] = []

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def start(self) -> None:
        """Start and wait until it is ready."""
        self._is_ready = threading.Event()
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        assert self._is_ready.wait(START_S), self.log
        assert self.process.poll() is None, self.log

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self.process.terminate()
        return self._ended()

    def _ended(self) -> int:
        """Wait until it has ended; a stub of its Python backend may outlive a Triton that was killed."""
        status = self.process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reader.join(STOP_S)
        return status

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                self.lines.append(line)
                if "Started Metrics Service" in line:
                    self._is_ready.set()
        self._is_ready.set()


@contextmanager
def running(repository: Path, *flags: str) -> Iterator[Triton]:
    """Start a Triton, wait until it is ready, stop it."""
    triton = Triton(repository, *flags)
    triton.start()
    try:
        yield triton
    finally:
        if triton.process.poll() is None:
            triton.stop()


def until(is_true, *, within_s: float) -> float:
    """Ask again and again until the answer is yes; return the seconds that took."""
    started_s = time.monotonic()
    while not is_true():
        assert time.monotonic() - started_s < within_s, f"not so within {within_s:g} s"
        threading.Event().wait(0.02)
    return time.monotonic() - started_s
