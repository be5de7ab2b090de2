"""A server process of its own, pinned to one core, while this process keeps to the other."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
START_S = 120.0
STOP_S = 40.0
_ALLOWED = sorted(os.sched_getaffinity(0))
"""The cores we may use, looked up before we pin ourselves."""


def cores() -> tuple[int, int]:
    """Return the core for the server and the core for the generator: the same one where there is but one."""
    return _ALLOWED[-1], _ALLOWED[0]


def allowed_cores() -> list[int]:
    """Return the cores that this process was started on."""
    return list(_ALLOWED)


def pin_to(core: int) -> None:
    """Keep this process to one core."""
    os.sched_setaffinity(0, {core})


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Served:
    """A running server: where it answers, its process, and how long it took from start to ready."""

    def __init__(self, process: "subprocess.Popen[str]", started_s: float) -> None:
        self.process = process
        self.url = ""
        self.ready_s = 0.0
        self._started_s = started_s
        self._lines: list[str] = []
        self._is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait(self) -> None:
        """Wait until it serves.

        Raises: SystemExit with its log if it does not.
        """
        if not self._is_ready.wait(START_S) or not self.url:
            raise SystemExit(f"server; got this log:\n{self.log}\nexpected it to start")

    def close(self) -> None:
        """Read the log to its end."""
        self._reader.join(STOP_S)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            match = re.search(r"serving url=(\S+)", line)
            if match and not self.url:
                self.ready_s, self.url = time.monotonic() - self._started_s, match.group(1)
                self._is_ready.set()
        self._is_ready.set()


def server_command(*arguments: str) -> list[str]:
    """Return the command that starts our server on free ports."""
    return [sys.executable, "-m", "server", "--port", "0", "--grpc-port", "0", "--log-level", "info", *arguments]


def environment() -> dict[str, str]:
    """Return our environment without settings of the server, and with onnxruntime's telemetry off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADATAPE_")}
    return {**kept, "ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def serving(repository: Path | None, *arguments: str, core: int | None = None) -> Iterator[Served]:
    """Start a server on a model repository (the fake backend without one), wait for it, stop it at the end."""
    source = ["--backend", "fake"] if repository is None else ["--model-repository", str(repository)]
    with started(server_command(*source, *arguments), core=core) as served:
        yield served


@contextmanager
def started(command: Sequence[str], *, core: int | None = None) -> Iterator[Served]:
    """Start a command that logs `serving url=...` once it serves, pinned to a core; stop it at the end."""
    pin = ["taskset", "--cpu-list", str(core)] if core is not None else []
    started_s = time.monotonic()
    process = subprocess.Popen(
        [*pin, *command], cwd=ROOT, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    served = Served(process, started_s)
    try:
        served.wait()
        yield served
    finally:
        stop(process)
        served.close()


def stop(process: "subprocess.Popen[str]") -> None:
    """Ask a process to end, and end it where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)
