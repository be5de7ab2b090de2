"""Messages with far more parts than any client needs."""

import asyncio

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import MAX_RECOVERY_S, ScenarioServers, load_on, until_answered
from loadtest.hostile.http2 import Exchange
from loadtest.hostile.messages.rpc import EMPTY, SERVICE, infer
from loadtest.hostile.table import MessageContext

FAMILY = "adatape_fake"
NUM_FLOODS, NUM_AT_ONCE = 40, 4
NUM_INPUTS = 1_000_000
REFUSED = "status 8"
"""RESOURCE_EXHAUSTED."""


@scenario
async def a_grpc_entry_flood(servers: ScenarioServers) -> str:
    """GRPC messages of a million empty inputs are refused, and nobody else waits for them, nor is the worker ended."""
    flood = infer(EMPTY * NUM_INPUTS)(MessageContext(FAMILY))
    assert isinstance(flood, Exchange), SERVICE
    with servers.fake("--supervise") as server:
        await until_answered(server)
        pid, (host, _, port) = server.pid, server.grpc.rpartition(":")
        address, room = (host, int(port)), asyncio.Semaphore(NUM_AT_ONCE)

        async def send() -> str:
            async with room:
                return await asyncio.to_thread(flood.run, address)

        async with load_on(server) as load:
            answers = await asyncio.gather(*(send() for _ in range(NUM_FLOODS)))
        promise(set(answers) == {REFUSED}, set(answers), f"{REFUSED} for every flood")
        promise(load.num_failed == 0, dict(load.statuses), "no other request to fail")
        longest_s = max(load.seconds)
        promise(longest_s < MAX_RECOVERY_S / 10, f"{longest_s:.2f} s", f"others in {MAX_RECOVERY_S / 10:g} s at most")
        promise(server.pid == pid, f"worker {server.pid}", f"{pid}, the same")
    others = load.statuses[200]
    return f"{NUM_FLOODS} floods refused, {others} others answered, the slowest in {1000 * longest_s:.0f} ms"
