"""A wall clock that jumps by hours."""

import asyncio
import json
import tempfile
import time
from pathlib import Path

from loadtest.chaos.clock import SEEN_S, WallClock
from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import ScenarioServers, load_on, to_request, until_answered
from loadtest.lean_http import Client, find_header
from loadtest.process import Server
from loadtest.tenants import make_tenants

HOUR_S = 3600
STEPS_S = (6 * HOUR_S, -12 * HOUR_S, 0)
FLOPS_PER_S = 1000.0
BURST_FLOPS = 50_000.0
"""Some calls at once, then one every few seconds."""
MAX_WAIT_S = 10.0
SYNC_S = 0.2
LATE_S = 2.0
DEADLINE_MS = 5000


class Frugal:
    """A caller with a small quota: what it was answered, and how long it is told to wait."""

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._call = to_request(query=f"?max_tape=0&deadline_ms={DEADLINE_MS}", key=key)
        self.useful_flops = 0
        self.started_s = time.monotonic()

    async def ask(self) -> float | None:
        """Return None if it was answered, else the seconds after which it may come again.

        Raises: Broken if it was refused for another reason than its quota.
        """
        reply = await self._client.send(self._call)
        promise(reply.status in {200, 429}, f"{reply.status} {reply.body!r}", "an answer, or 429 for the quota")
        if reply.status == 429:
            return float(find_header(reply.head, "Retry-After") or "nan")
        (result,) = json.loads(reply.body)["results"]
        self.useful_flops += result["receipt"]["useful_flops"]
        return None

    async def spend_all(self) -> float:
        """Ask until the quota is spent; return how long to wait."""
        while (wait_s := await self.ask()) is None:
            pass
        return wait_s

    def check(self) -> None:
        """Hold what was had against what a quota allows for in the time that has really passed.

        Raises: Broken.
        """
        most = BURST_FLOPS + FLOPS_PER_S * (time.monotonic() - self.started_s)
        promise(self.useful_flops <= most, f"{self.useful_flops} FLOPs", f"at most {most:.0f}")


@scenario
async def a_wall_clock_that_steps(servers: ScenarioServers) -> str:
    """The wall clock jumps by hours, forwards and back: nothing expires, and quotas refill as if it had not."""
    with tempfile.TemporaryDirectory() as folder:
        clock = WallClock(Path(folder))
        quota = f"burst_flops = {BURST_FLOPS:g}"
        tenants = make_tenants(servers.server, Path(folder), flops_per_s=FLOPS_PER_S, quota=quota)
        arguments = [*tenants.arguments(), "--quota-sync-s", str(SYNC_S)]
        with servers.fake(*arguments, variables=clock.variables) as server:
            await until_answered(server)
            client = Client(server.url)
            frugal = Frugal(client, tenants.frugal_key)
            async with load_on(server) as load:
                await frugal.spend_all()
                waits_s = [await _step(server, clock, offset_s, frugal) for offset_s in STEPS_S]
            frugal.check()
            await client.close()
            promise(load.num_failed == 0, dict(load.statuses), "no other request to fail")
            promise(server.find("quota_store_failed") is None, "a failing store", "one that is written")
    return (
        f"{', '.join(f'{offset_s / HOUR_S:+g} h' for offset_s in STEPS_S)} ({clock.kind}): told to wait "
        f"{', '.join(f'{wait_s:g}' for wait_s in waits_s)} s and answered then; {load.statuses[200]} others answered"
    )


async def _step(server: Server, clock: WallClock, offset_s: int, frugal: Frugal) -> float:
    """Step the clock under a caller whose quota is spent; return how long it is told to wait.

    Raises: Broken if the quota is full by that, or does not refill.
    """
    clock.step(offset_s)
    await asyncio.sleep(SEEN_S + 5 * SYNC_S)
    stats = (await asyncio.to_thread(server.get, "/v2/models/adatape_fake/stats")).json()
    seen_s = stats["model_stats"][0]["last_inference"] / 1000 - time.time()
    promise(abs(seen_s - offset_s) < HOUR_S, f"a clock off by {seen_s:.0f} s", f"{offset_s} s: the step is not seen")
    await frugal.spend_all()
    frugal.check()
    wait_s = await frugal.spend_all()
    promise(0 < wait_s <= MAX_WAIT_S, f"Retry-After {wait_s:g} s", f"at most {MAX_WAIT_S:g} s")
    end_s = time.monotonic() + wait_s + LATE_S
    while await frugal.ask() is not None:
        promise(time.monotonic() < end_s, f"no answer after {wait_s:g} s", "the quota to have refilled")
        await asyncio.sleep(SYNC_S)
    status = (await asyncio.to_thread(server.get, "/readyz")).status_code
    promise(status == 200, status, "a server that is ready")
    return wait_s
