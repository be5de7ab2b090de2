"""The run: traffic, reloads and looks, for as long as asked."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtest.metrics import Samples, total
from loadtest.process import Footprint, Server
from loadtest.repository import RepositoryCopy
from loadtest.soak.book import Book, Usage
from loadtest.soak.scene import make_scene
from loadtest.soak.traffic import Traffic
from loadtest.tenants import Tenants

LOOK_S = 1.0
TELL_S = 60.0
PATIENCE_S = 600.0
"""How long a reload may take, and the last callers may be busy, on a machine that has other things to do."""


@dataclass(slots=True)
class Run:
    """What one run saw."""

    book: Book
    resting: Footprint
    times_s: list[float] = field(default_factory=list)
    looks: list[Footprint] = field(default_factory=list)
    num_reloads: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        """Return the time from the first look to the last."""
        return self.times_s[-1] - self.times_s[0]

    def standing(self) -> dict[str, int]:
        """Return where the run stands."""
        counts = {"calls": self.book.num_calls, "unexpected": self.book.num_unexpected, "reloads": self.num_reloads}
        return counts | asdict(self.looks[-1])


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how fast, and what is written down. Units: calls a second."""

    duration_s: float
    rate: float
    reload_s: float
    seed: int
    record: Path | None = None
    server_arguments: tuple[str, ...] = ()


async def soak(served: Server, shelf: RepositoryCopy, tenants: Tenants, plan: Plan) -> Run:
    """Make the calls, and see the last of them out."""
    model = served.get(f"/v1/models/{shelf.family}").json()
    run = Run(Book(fickle_flops=model["min_flops"]), served.footprint())
    traffic = Traffic(make_scene(model, run.book, plan.seed, tenants.keys), served.url, served.grpc)
    helpers = [
        _help(run, lambda: _look(served, run, plan.record)),
        _help(run, lambda: _reload(served, shelf, tenants.admin_key, plan.reload_s, run)),
        _help(run, lambda: _tell(run)),
    ]
    end_s = time.monotonic() + plan.duration_s
    async with asyncio.TaskGroup() as calls:
        while time.monotonic() < end_s:
            calls.create_task(traffic.one())
            await asyncio.sleep(traffic.gap_s(plan.rate))
    for helper in helpers:
        helper.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    await traffic.close()
    await settle(served)
    return run


async def settle(served: Server) -> None:
    """Return once the server has noticed that everyone is gone; one connection is that which asks."""
    for _ in range(round(PATIENCE_S / LOOK_S)):
        if _is_at_rest(await asyncio.to_thread(served.metrics)):
            return
        await asyncio.sleep(LOOK_S)


def read_usage(served: Server, admin_key: str) -> Usage:
    """Return what the server says that each tenant has had."""
    document = served.get("/v1/usage?tenant=*", admin_key).json()
    return {tenant["tenant"]: tenant["total"] for tenant in document["tenants"]}


def _is_at_rest(counts: Samples) -> bool:
    busy = total(counts, "adatape_pending_samples") + total(counts, "adatape_executions_running")
    return busy == 0 and total(counts, "adatape_open_connections") <= 1


def _help(run: Run, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Do something beside the traffic, as long as it lasts; that it ends by itself is a fault."""

    async def last() -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - an edge: whatever ended it belongs in the report
            run.faults.append(f"what goes on beside the traffic; got {error!r}; expected it to last")

    return asyncio.create_task(last())


async def _look(served: Server, run: Run, record: Path | None) -> None:
    """Look at the server again and again, and write down what is seen, for whoever wants to know how far it came."""
    record = record or Path(os.devnull)
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open("w", encoding="utf-8", buffering=1) as log:
        while True:
            run.times_s.append(time.monotonic())
            run.looks.append(served.footprint())
            log.write(json.dumps({"at_s": round(run.lasted_s, 1), **run.standing()}) + "\n")
            await asyncio.sleep(LOOK_S)


async def _tell(run: Run) -> None:
    """Say how it stands."""
    while True:
        await asyncio.sleep(TELL_S)
        standing = " ".join(f"{name}={value}" for name, value in run.standing().items())
        print(f"soak: {run.lasted_s:.0f} s: {standing}", *run.book.faults, *run.faults, file=sys.stderr, flush=True)


async def _reload(served: Server, shelf: RepositoryCopy, admin_key: str, reload_s: float, run: Run) -> None:
    """Publish the next version and load it, again and again; the one before the last is taken away."""
    version = 1
    while True:
        await asyncio.sleep(reload_s)
        version += 1
        shelf.publish(version)
        path = f"/v2/repository/models/{shelf.family}/load"
        reply = await asyncio.to_thread(served.post, path, admin_key, PATIENCE_S)
        run.num_reloads += 1
        if reply.status_code != 200:
            run.faults.append(f"load of version {version}; got {reply.status_code} {reply.text}; expected 200")
        if version > 2:
            shelf.remove(version - 1)
