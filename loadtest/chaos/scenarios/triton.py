"""A Triton that hangs or is killed under a gateway."""

import asyncio
import time

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import MAX_RECOVERY_S, ScenarioServers, classify, load_on, until_answered
from loadtest.lean_http import find_header
from loadtest.metrics import total
from loadtest.process import Server


async def _refused(server: Server) -> float:
    """Ask until it is refused; return how long that took.

    Raises: Broken if the refusal comes late, or does not say when to come again.
    """
    started_s = time.monotonic()
    while (reply := await classify(server)).status == 200:
        promise(time.monotonic() - started_s < MAX_RECOVERY_S, "answers", "a refusal while no Triton answers")
    seconds = time.monotonic() - started_s
    promise(reply.status == 503, f"{reply.status} {reply.body!r}", "503")
    promise(find_header(reply.head, "Retry-After") is not None, reply.head, "a time to come again")
    promise(seconds < MAX_RECOVERY_S, f"{seconds:.1f} s", f"a refusal in less than {MAX_RECOVERY_S:g} s")
    return seconds


@scenario
async def a_triton_that_hangs_and_one_that_is_killed(servers: ScenarioServers) -> str:
    """While a Triton hangs or is dead its gateway refuses at once and says so; it is used again once it is back."""
    with servers.gateway() as (server, triton):
        await until_answered(server)
        async with load_on(server) as load:
            await asyncio.sleep(1.0)
            triton.pause()
            hung_s = await _refused(server)
            triton.resume()
            resumed_s = await until_answered(server, limit_s=MAX_RECOVERY_S)
            triton.kill()
            killed_s = await _refused(server)
            ready = (await asyncio.to_thread(server.get, "/readyz")).status_code
            promise(ready == 503, ready, "503 from /readyz while no Triton is up")
            await asyncio.to_thread(triton.start)
            restarted_s = await until_answered(server, limit_s=MAX_RECOVERY_S)
        promise(set(load.statuses) == {200, 503}, dict(load.statuses), "answers, and refusals with 503")
        number = total(server.metrics(), "adatape_recovery_seconds_count", fault="outage")
        promise(number >= 1, number, "a recovery from an outage in the metrics")
    return (
        f"hung: refused after {hung_s:.2f} s, back {resumed_s:.2f} s after it went on; killed: refused after "
        f"{killed_s:.2f} s, back {restarted_s:.2f} s after it was ready again"
    )
