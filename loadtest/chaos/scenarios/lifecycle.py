"""Signals and files of the operator: too little time to stop, SIGHUP, a tenants file that cannot be read."""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import MAX_RECOVERY_S, ScenarioServers, classify, load_on, to_request, until_answered
from loadtest.lean_http import Client, Reply
from loadtest.machine import free_ports, has_ended
from loadtest.metrics import total
from loadtest.process import Server
from loadtest.tenants import FRUGAL, Tenants, make_tenants

NUM_STUCK = 8
DRAIN_S = 1.0
GRACE_S = 1.5
SYNC_S = 0.1
MAX_WAIT_S = 10.0
_POLL_S = 0.02


@scenario
async def a_drain_longer_than_allowed(servers: ScenarioServers) -> str:
    """Work slower than the drain is told so with its id, and counted; health and metrics are served meanwhile."""
    stuck = ["--fake-faults", "hang", "--hang-timeout-s", "60", "--drain-s", str(DRAIN_S)]
    with servers.fake(*stuck) as server:
        calls = [asyncio.create_task(classify(server, "hang")) for _ in range(NUM_STUCK)]
        await _until(
            lambda: total(server.metrics(), "adatape_pending_samples") == NUM_STUCK, "all calls to be admitted"
        )
        started_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await _until(lambda: total(server.metrics(), "adatape_draining") == 1, "adatape_draining to be scraped")
        live = (await asyncio.to_thread(server.get, "/healthz")).status_code
        ready = (await asyncio.to_thread(server.get, "/readyz")).status_code
        late = await classify(server)
        replies = [await call for call in calls]
        status = await asyncio.to_thread(server.process.wait, 30)
        seconds = time.monotonic() - started_s
    promise((live, ready) == (200, 503), (live, ready), "a server that lives and is not ready")
    _check_refusal(late, "draining")
    for reply in replies:
        _check_refusal(reply, f"unfinished after {DRAIN_S:g} s")
    promise(status == 0, status, "exit status 0")
    promise(server.find(f"abandoned={NUM_STUCK}") is not None, server.lines[-3:], f"abandoned={NUM_STUCK} in the log")
    promise(server.find("Traceback") is None, server.find("Traceback"), "no traceback in the log")
    promise(seconds < DRAIN_S + MAX_RECOVERY_S, f"{seconds:.2f} s", f"an end soon after {DRAIN_S:g} s")
    return f"{NUM_STUCK} told and counted, metrics scraped while it drained, ended after {seconds:.2f} s"


def _check_refusal(reply: Reply, why: str) -> None:
    promise(reply.status == 503, reply.status, "503")
    head = reply.head.lower()
    for name in (b"x-request-id: ", b"retry-after: ", b"connection: close", b"content-type: application/json"):
        promise(name in head, head, f"a head with {name.decode()}")
    promise(why in json.loads(reply.body)["error"], reply.body, f"the reason: {why}")


@scenario
async def a_hangup_alone(servers: ScenarioServers) -> str:
    """SIGHUP ends no server and costs no request: keys that were changed behind its back count at once."""
    with tempfile.TemporaryDirectory() as folder:
        tenants = make_tenants(servers.server, Path(folder), flops_per_s=1e12)
        with servers.fake(*tenants.arguments(), "--quota-sync-s", "3600") as server:
            async with load_on(server) as load:
                await _withdraw(server, tenants)
                server.process.send_signal(signal.SIGHUP)
                seconds = await _until_refused(server, tenants)
            promise(load.num_failed == 0, dict(load.statuses), "every request to be answered")
            promise(server.is_running, server.process.poll(), "a server that goes on")
    return f"a withdrawn key refused after {seconds:.2f} s, {load.statuses[200]} others answered"


@scenario
async def a_hangup_under_a_supervisor(servers: ScenarioServers) -> str:
    """SIGHUP to a supervisor reaches its server, which goes on; a supervisor that is killed leaves nobody behind."""
    port, grpc_port = map(str, free_ports(2))
    with servers.fake("--supervise", "--port", port, "--grpc-port", grpc_port) as server:
        await until_answered(server)
        worker = server.pid
        async with load_on(server) as load:
            server.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(server.wait_for_log, "reloading signal=SIGHUP", MAX_WAIT_S)
            await until_answered(server)
        promise(load.num_failed == 0, dict(load.statuses), "every request to be answered")
        promise(server.pid == worker, server.pid, "the same process")
        started_s = time.monotonic()
        server.process.kill()
        await _until(lambda: has_ended(worker), "the server to end with its supervisor")
        seconds = time.monotonic() - started_s
        reply = await classify(server)
        promise(reply.status == 0, reply.status, "a port that nobody keeps")
    return f"{load.statuses[200]} answered through the hangup; gone {seconds:.2f} s after its supervisor"


@scenario
async def a_watch_that_meets_rubbish(servers: ScenarioServers) -> str:
    """No tenants file ends the watch over it: its keys expire while it is of no use, and a withdrawn one is refused."""
    with tempfile.TemporaryDirectory() as folder:
        tenants = make_tenants(servers.server, Path(folder), flops_per_s=1e12)
        good = tenants.path.read_bytes()
        every = ["--quota-sync-s", str(SYNC_S), "--tenants-grace-s", str(GRACE_S)]
        with servers.fake(*tenants.arguments(), *every) as server:
            for make in (_brackets, os.mkfifo, os.mkdir):
                tenants.path.unlink()
                make(tenants.path)
                seconds = await _until_refused(server, tenants)
                promise(seconds > GRACE_S / 2, f"{seconds:.2f} s", "the last good keys to count for a while")
                tenants.path.rmdir() if tenants.path.is_dir() else tenants.path.unlink()
                tenants.path.write_bytes(good)
                await _until_known(server, tenants)
            await _withdraw(server, tenants)
            seconds = await _until_refused(server, tenants)
            promise(seconds < MAX_RECOVERY_S, f"{seconds:.2f} s", "a withdrawn key to be refused soon")
            failures = total(server.metrics(), "adatape_background_task_failures_total")
            promise(failures == 0, failures, "no background task to fail over it")
            tenants.path.with_name("quota.sqlite3").unlink()
            await asyncio.to_thread(server.wait_for_log, "quota_store_removed", MAX_WAIT_S)
    return f"three kinds of rubbish, each ended by a good file; a key withdrawn after them refused in {seconds:.2f} s"


def _brackets(path: Path) -> None:
    path.write_text("a = " + "[" * 100_000, encoding="ascii")


async def _withdraw(server: Server, tenants: Tenants) -> None:
    """Take the frugal tenant's keys out of the file."""
    await _until_known(server, tenants)
    kept, _, _ = tenants.path.read_text(encoding="utf-8").partition(f"[tenants.{FRUGAL}]")
    tenants.path.write_text(f"{kept}[tenants.{FRUGAL}]\n", encoding="utf-8")


async def _until_known(server: Server, tenants: Tenants) -> float:
    return await _until_status(server, tenants, 200)


async def _until_refused(server: Server, tenants: Tenants) -> float:
    return await _until_status(server, tenants, 401)


async def _until_status(server: Server, tenants: Tenants, status: int) -> float:
    """Ask with the frugal tenant's key until that comes to this status; return the seconds that took."""
    started_s, client, call = time.monotonic(), Client(server.url), to_request(key=tenants.frugal_key)
    while (reply := await client.send(call)).status != status:
        promise(time.monotonic() - started_s < MAX_WAIT_S, reply.status, f"{status} in {MAX_WAIT_S:g} s")
        await asyncio.sleep(_POLL_S)
    await client.close()
    return time.monotonic() - started_s


async def _until(is_so: Callable[[], bool], what: str) -> None:
    started_s = time.monotonic()
    while not await asyncio.to_thread(is_so):
        promise(time.monotonic() - started_s < MAX_WAIT_S, "nothing", f"{what} in {MAX_WAIT_S:g} s")
        await asyncio.sleep(_POLL_S)
