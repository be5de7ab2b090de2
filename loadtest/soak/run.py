"""The run: traffic, reloads of the model, and measurements of the server's process."""

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
from loadtest.soak.client_log import ClientLog, Usage
from loadtest.soak.inputs import make_inputs
from loadtest.soak.traffic import Traffic
from loadtest.tenants import Tenants

LOOK_S = 1.0
TELL_S = 60.0
PATIENCE_S = 600.0
"""The longest time for a reload and for the last requests, on a busy machine."""


@dataclass(slots=True)
class Run:
    """The figures of one run."""

    log: ClientLog
    resting: Footprint
    times_s: list[float] = field(default_factory=list)
    looks: list[Footprint] = field(default_factory=list)
    num_reloads: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def lasted_s(self) -> float:
        """Return the time from the first look to the last."""
        return self.times_s[-1] - self.times_s[0]

    def progress(self) -> dict[str, int]:
        """Return the figures until now."""
        counts = {
            "calls": self.log.num_calls,
            "unexpected": self.log.num_unexpected,
            "reloads": self.num_reloads,
        }
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


async def soak(server: Server, repository: RepositoryCopy, tenants: Tenants, plan: Plan) -> Run:
    """Send the traffic, and wait until every request has ended."""
    model = server.get(f"/v1/models/{repository.family}").json()
    run = Run(ClientLog(abandoned_flops=model["min_flops"]), server.footprint())
    traffic = Traffic(make_inputs(model, run.log, plan.seed, tenants.keys), server.url, server.grpc)
    helpers = [
        _start_helper(run, lambda: _record_footprints(server, run, plan.record)),
        _start_helper(run, lambda: _reload(server, repository, tenants.admin_key, plan.reload_s, run)),
        _start_helper(run, lambda: _print_progress(run)),
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
    await settle(server)
    return run


async def settle(server: Server) -> None:
    """Wait until the server counts no request and no connection but the one that reads its metrics."""
    for _ in range(round(PATIENCE_S / LOOK_S)):
        if _is_at_rest(await asyncio.to_thread(server.metrics)):
            return
        await asyncio.sleep(LOOK_S)


def read_usage(server: Server, admin_key: str) -> Usage:
    """Return the usage report by tenant."""
    document = server.get("/v1/usage?tenant=*", admin_key).json()
    return {tenant["tenant"]: tenant["total"] for tenant in document["tenants"]}


def _is_at_rest(counts: Samples) -> bool:
    busy = total(counts, "adatape_pending_samples") + total(counts, "adatape_executions_running")
    return busy == 0 and total(counts, "adatape_open_connections") <= 1


def _start_helper(run: Run, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Start work that lasts as long as the traffic; it is a fault if it ends before."""

    async def last() -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - an edge: whatever ended it belongs in the report
            run.faults.append(f"what goes on beside the traffic; got {error!r}; expected it to last")

    return asyncio.create_task(last())


async def _record_footprints(server: Server, run: Run, record: Path | None) -> None:
    """Measure the server's process every second, and write each measurement to a file."""
    record = record or Path(os.devnull)
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.open("w", encoding="utf-8", buffering=1) as log:
        while True:
            run.times_s.append(time.monotonic())
            run.looks.append(server.footprint())
            log.write(json.dumps({"at_s": round(run.lasted_s, 1), **run.progress()}) + "\n")
            await asyncio.sleep(LOOK_S)


async def _print_progress(run: Run) -> None:
    """Print the figures every minute."""
    while True:
        await asyncio.sleep(TELL_S)
        progress = " ".join(f"{name}={value}" for name, value in run.progress().items())
        print(f"soak: {run.lasted_s:.0f} s: {progress}", *run.log.faults, *run.faults, file=sys.stderr, flush=True)


async def _reload(server: Server, repository: RepositoryCopy, admin_key: str, reload_s: float, run: Run) -> None:
    """Publish and load a new version again and again; remove the version before the last."""
    version = 1
    while True:
        await asyncio.sleep(reload_s)
        version += 1
        repository.publish(version)
        path = f"/v2/repository/models/{repository.family}/load"
        reply = await asyncio.to_thread(server.post, path, admin_key, PATIENCE_S)
        run.num_reloads += 1
        if reply.status_code != 200:
            run.faults.append(f"load of version {version}; got {reply.status_code} {reply.text}; expected 200")
        if version > 2:
            repository.remove(version - 1)
