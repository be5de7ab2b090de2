"""A real server process on loopback, as its users start it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 30.0
SERVING = re.compile(r'serving(?: url=|","url":")([^\s"]+)')
"""In the log as text, or as JSON."""


class Running:
    """One server: its address, its process and all that it has logged."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._is_serving = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.started_s = time.monotonic()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        match = SERVING.search(self.log)
        assert match, self.log
        return match.group(1)

    def wait(self) -> float:
        """Wait until it serves; return the seconds that took."""
        assert self._is_serving.wait(START_S), self.log
        assert self.process.poll() is None, self.log
        return time.monotonic() - self.started_s

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait until it has ended and its log is complete; return its exit status."""
        status = self.process.wait(STOP_S)
        self._reader.join(STOP_S)
        return status

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            if SERVING.search(line):
                self._is_serving.set()
        self._is_serving.set()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "server", "--port", "0", "--grpc-port", "0", *arguments]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADATAPE_")}
    return {**kept, **extra}


@contextmanager
def booted(*arguments: str, **extra: str) -> Iterator[Running]:
    """Start a server, wait until it serves, stop it."""
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env=environment(**extra), stderr=subprocess.PIPE, text=True, errors="replace"
    )
    running = Running(process)
    try:
        running.wait()
        yield running
    finally:
        running.stop()
        assert process.stderr
        process.stderr.close()
