"""The cores of this machine: the server is pinned to one, and this process, which sends the load, to another."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from loadtest.process import Server, start_server

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


def start_pinned(
    core: int, repository: Path | None, *arguments: str, module: str = "server"
) -> AbstractContextManager[Server]:
    """Start a server of a model repository, or of the fake backend without one, on one core."""
    source = ["--backend", "fake"] if repository is None else ["--model-repository", str(repository)]
    return start_server(*source, *arguments, server=f"taskset --cpu-list {core} {sys.executable} -m {module}")
