"""Facts of the machine that a harness runs on: its description, free ports, processes."""

import os
import platform
import socket
from contextlib import ExitStack
from pathlib import Path


def describe() -> str:
    """Return what a report says of the machine; never its name."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listened on a moment ago, for programs that cannot choose."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]


def has_ended(pid: int) -> bool:
    """Say whether a process runs no more, though its parent may not have asked what became of it yet."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return "\nState:\tZ" in status


def process_tree(pid: int) -> list[int]:
    """Return a process and all that it and they have started and that still run below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        below = children.read_text(encoding="ascii").split()
    except OSError:
        below = []
    return [pid, *(each for child in below for each in process_tree(int(child)))]
