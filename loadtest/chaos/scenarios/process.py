"""A process that crashes, is stuck, or gets a stop signal."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import ScenarioServers, classify, load_on, until_answered, until_restarted
from loadtest.machine import free_ports
from loadtest.process import Server

NUM_CALLERS = 100
DELAY_S = 2.0
NUM_HANGS = 3
SETTLED_S = 1.0
"""By then the supervisor has seen its worker live."""


@asynccontextmanager
async def _supervised(servers: ScenarioServers, fault: str) -> AsyncIterator[Server]:
    """Give a server that its supervisor has seen live.

    Raises: Broken if no other has taken its place in the end.
    """
    port, grpc_port = map(str, free_ports(2))
    with servers.fake("--supervise", "--port", port, "--grpc-port", grpc_port, "--fake-faults", fault) as server:
        await until_answered(server)
        await asyncio.sleep(SETTLED_S)
        before = server.pid
        yield server
        promise(server.pid != before, server.pid, "another process")


async def _back(server: Server, started_s: float) -> str:
    seconds, metric_s = await until_restarted(server, started_s)
    return f"answered again after {seconds:.2f} s, {metric_s:.2f} s of it without a server by its own metric"


@scenario
async def a_process_that_crashes(servers: ScenarioServers) -> str:
    """A supervised server that is killed serves again in a few seconds."""
    async with _supervised(servers, "crash") as server:
        started_s = time.monotonic()
        reply = await classify(server, "crash")
        promise(reply.status == 0, reply.status, "the connection to break")
        return await _back(server, started_s)


@scenario
async def a_process_that_is_stuck(servers: ScenarioServers) -> str:
    """A supervised server whose executions hang one after another is killed and started anew."""
    async with _supervised(servers, "hang") as server:
        started_s = time.monotonic()
        for _ in range(NUM_HANGS):
            await classify(server, "hang")
        hung_s = time.monotonic() - started_s
        await asyncio.to_thread(server.wait_for_log, "worker_not_live", 30.0)
        noticed_s = time.monotonic() - started_s
        figures = await _back(server, started_s)
    return f"{figures}, {NUM_HANGS} hangs given up after {hung_s:.2f} s, killed after {noticed_s:.2f} s"


@scenario
async def an_event_loop_that_is_blocked(servers: ScenarioServers) -> str:
    """A supervised server whose event loop is blocked says by what, ends, and serves again in a few seconds."""
    async with _supervised(servers, "block") as server:
        started_s = time.monotonic()
        reply = await classify(server, "block")
        promise(reply.status == 0, reply.status, "the connection to break")
        line = server.find("event_loop_blocked")
        promise(line is not None and "faults.py" in line, line, "a line that names what blocks the event loop")
        return await _back(server, started_s)


@scenario
async def a_process_that_stands_still(servers: ScenarioServers) -> str:
    """A supervised server that does nothing any more is killed and started anew."""
    async with _supervised(servers, "crash") as server:
        started_s = time.monotonic()
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.to_thread(server.wait_for_log, "worker_not_live", 30.0)
        return await _back(server, started_s)


@scenario
async def a_stop_signal_under_load(servers: ScenarioServers) -> str:
    """After a stop signal readiness goes first, what is accepted is answered, and the exit status is 0."""
    with servers.fake("--drain-delay-s", str(DELAY_S)) as server:
        async with load_on(server, NUM_CALLERS) as load:
            await asyncio.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(DELAY_S / 8)
            status = (await asyncio.to_thread(server.get, "/readyz")).status_code
            during = (await classify(server)).status
            await asyncio.to_thread(server.process.wait, 30)
        refused = {key: count for key, count in load.statuses.items() if key not in {0, 200, 503}}
        promise(status == 503, status, "503 from /readyz during the delay")
        promise(during == 200, during, "requests to be answered during the delay")
        promise(not refused, refused, "no request that was accepted to fail, and new ones to be 503 at most")
        promise(server.process.returncode == 0, server.process.returncode, "exit status 0")
        promise(server.find("abandoned=0") is not None, "none", "no request abandoned, in the log")
    return f"{load.statuses[200]} answered over {NUM_CALLERS} connections, exit status 0"
