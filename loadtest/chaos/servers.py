"""Servers for scenarios, images marked for faults, and load in the background."""

import asyncio
import io
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from loadtest.chaos.disk import SmallDisk
from loadtest.chaos.promises import Skipped, promise
from loadtest.lean_http import Client, Reply, render
from loadtest.metrics import total
from loadtest.process import Server, start_server
from loadtest.repository import RepositoryCopy
from loadtest.triton import Triton, start_triton

SIDE_PX = 8
MARK = (250, 251)
MARKS = {"raise": 1, "hang": 2, "nan": 3, "shape": 4, "crash": 5, "block": 6}
"""How the fake backend is asked for a fault: the first pixel of an image."""
NUM_CALLERS = 4
ROOM_BYTES = 4_000_000
"""What is free on a small disk at first."""
MAX_RECOVERY_S = 5.0
_POLL_S = 0.05


@dataclass(slots=True)
class Load:
    """What callers in the background saw, with the seconds that each answer took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    is_over: bool = False

    @property
    def num_failed(self) -> int:
        return self.statuses.total() - self.statuses[200]

    def p99_ms(self) -> float:
        """Return the 99th percentile of what was seen since the last call."""
        seconds, self.seconds = self.seconds, []
        return float(np.percentile(seconds, 99)) * 1000 if seconds else float("nan")


class ScenarioServers:
    """Starts the servers of one scenario. `server` is the command; `repository` and `family` are what real ones serve.

    `triton` is the command of a Triton, where there is one.
    """

    def __init__(self, server: str, repository: Path, family: str, triton: str | None = None) -> None:
        self.server = server
        self._triton = triton
        self.repository, self.family = repository, family

    @contextmanager
    def fake(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Server]:
        """Give a server of the fake backend."""
        with start_server("--backend", "fake", *arguments, server=self.server, variables=variables) as server:
            yield server

    @contextmanager
    def real(self, *arguments: str) -> Iterator[tuple[Server, RepositoryCopy]]:
        """Give a server of a copy of the family, and the copy."""
        with tempfile.TemporaryDirectory() as folder:
            repository = RepositoryCopy(self.repository, self.family, Path(folder))
            with start_server("--model-repository", folder, *arguments, server=self.server) as server:
                yield server, repository

    @contextmanager
    def gateway(self) -> Iterator[tuple[Server, Triton]]:
        """Give a gateway to a Triton of the family.

        Raises: Skipped where there is no Triton.
        """
        if self._triton is None:
            raise Skipped("no Triton here: make triton-setup")
        with tempfile.TemporaryDirectory() as folder:
            repository = RepositoryCopy(self.repository, self.family, Path(folder))
            with start_triton(self._triton, repository.root) as triton:
                gateway = ["--backend", "triton", "--triton-url", triton.grpc, "--model-repository", folder]
                with start_server(*gateway, server=self.server) as server:
                    yield server, triton

    @contextmanager
    def on_a_small_disk(self, *arguments: str) -> Iterator[tuple[Server, RepositoryCopy, SmallDisk]]:
        """Give a server whose copy of the family, and whatever else is there, lies on a small disk of its own."""
        with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as folder:
            repository = RepositoryCopy(self.repository, self.family, Path(source))
            size_bytes = sum(path.stat().st_size for path in repository.root.rglob("*")) + ROOM_BYTES
            disk = SmallDisk(Path(folder), repository.root, size_bytes)
            places = [each.format(disk=folder) for each in arguments]
            with start_server("--model-repository", folder, *places, server=disk.command(self.server)) as server:
                repository.root = disk.reach(server)
                yield server, repository, disk


def picture(mark: str | None = None, level: int = 120) -> bytes:
    """Return a small image, marked for a fault of the fake backend if one is named."""
    pixels = np.full((SIDE_PX, SIDE_PX, 3), level, np.uint8)
    if mark is not None:
        pixels[0, 0] = (*MARK, MARKS[mark])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def to_request(mark: str | None = None, *, query: str = "", key: str = "") -> bytes:
    """Return a classify call as bytes; `key` is the caller's API key."""
    known = {"X-API-Key": key} if key else {}
    return render(f"/v1/classify{query}", picture(mark), {"Content-Type": "image/png", **known})


async def until_restarted(server: Server, started_s: float) -> tuple[float, float]:
    """Wait until a supervisor has started a server anew and it answers.

    Return the seconds since `started_s`, and what the server's own metric says of the time without one.
    Raises: Broken if either is too long.
    """
    await until_answered(server)
    seconds = time.monotonic() - started_s
    promise(seconds < MAX_RECOVERY_S, f"{seconds:.2f} s", f"less than {MAX_RECOVERY_S:g} s")
    metric_s = total(server.metrics(), "adatape_recovery_seconds_sum", fault="process")
    promise(0 < metric_s < MAX_RECOVERY_S, f"{metric_s:.2f} s", f"a recovery of less than {MAX_RECOVERY_S:g} s")
    return seconds, metric_s


async def classify(server: Server, mark: str | None = None) -> Reply:
    """Classify one image over a connection of its own."""
    client = Client(server.url)
    try:
        return await client.send(to_request(mark))
    finally:
        await client.close()


@asynccontextmanager
async def load_on(server: Server, num_callers: int = NUM_CALLERS) -> AsyncIterator[Load]:
    """Keep callers with sound images busy."""
    load, client, call = Load(), Client(server.url), to_request()

    async def keep_asking() -> None:
        while not load.is_over:
            started_s = time.monotonic()
            reply = await client.send(call)
            load.statuses[reply.status] += 1
            load.seconds.append(time.monotonic() - started_s)
            if reply.status != 200:
                await asyncio.sleep(_POLL_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(num_callers):
            group.create_task(keep_asking())
        try:
            yield load
        finally:
            load.is_over = True
    await client.close()


async def until_answered(server: Server, status: int = 200, limit_s: float = 30.0) -> float:
    """Ask until a sound image gets this status; return the seconds that took.

    Raises: Broken, with what was said last, if it has not by the limit.
    """
    started_s = time.monotonic()
    while (reply := await classify(server)).status != status:
        is_late = time.monotonic() - started_s > limit_s
        promise(not is_late, f"{reply.status} {reply.body!r}", f"{status} in less than {limit_s:g} s")
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - started_s
