"""A disk that is full while a server runs: where its usage is kept, and where new versions are published."""

import asyncio
import json
import re
import tempfile
from pathlib import Path

from loadtest.chaos.disk import can_mount
from loadtest.chaos.promises import Skipped, promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import ScenarioServers, load_on, to_request, until_answered
from loadtest.lean_http import Client
from loadtest.metrics import total
from loadtest.process import Server
from loadtest.repository import RepositoryCopy
from loadtest.tenants import Tenants, make_tenants

SYNC_S = 0.2
NUM_CALLS = 20
MAX_WAIT_S = 10.0
PAGE_BYTES = 4096
"""Room for the beginning of a manifest."""


@scenario
async def a_disk_that_is_full(servers: ScenarioServers) -> str:
    """On a full disk requests are answered, half-written versions refused, and usage is kept until there is room."""
    if not await asyncio.to_thread(can_mount):
        raise Skipped("no user namespaces here: a small disk cannot be mounted")
    with tempfile.TemporaryDirectory() as folder:
        tenants = make_tenants(servers.server, Path(folder), flops_per_s=1e12)
        store = ["--tenants-file", str(tenants.path), "--quota-store", "sqlite:{disk}/quota.sqlite3"]
        with servers.on_a_small_disk(*store, "--quota-sync-s", str(SYNC_S)) as (server, repository, disk):
            await until_answered(server)
            async with load_on(server) as load:
                await _call(server, tenants)
                num_bytes = disk.fill()
                await _call(server, tenants)
                await asyncio.to_thread(server.wait_for_log, "quota_store_failed", MAX_WAIT_S)
                refusal = await _usage_is_refused(server, tenants)
                disk.spare(PAGE_BYTES)
                reason = await _half_a_version_is_refused(server, repository, tenants)
                disk.empty()
                await asyncio.to_thread(server.wait_for_log, "quota_store_back", MAX_WAIT_S)
                await _call(server, tenants)
                repository.remove(2)
                repository.publish(3)
                status, why = await _load(server, repository, tenants)
            promise(status == 200, f"{status} {why}", "a whole version to be taken once there is room")
            promise(load.num_failed == 0, dict(load.statuses), "every request to be answered")
            failed = total(server.metrics(), "adatape_quota_syncs_total", result="failed")
            promise(failed >= 1, failed, "the metric to tell")
            usage = server.get("/v1/usage", tenants.frugal_key).json()
            (kept,) = [model["num_requests"] for tenant in usage["tenants"] for model in tenant["models"]]
            promise(kept == 3 * NUM_CALLS, f"usage of {kept} requests", f"all {3 * NUM_CALLS}")
    return (
        f"full after {num_bytes} bytes; {load.statuses[200]} answered, 0 failed; usage: {refusal}; version: {reason}; "
        f"then all {kept} counted"
    )


async def _call(server: Server, tenants: Tenants) -> None:
    client, call = Client(server.url), to_request(key=tenants.frugal_key)
    statuses = {(await client.send(call)).status for _ in range(NUM_CALLS)}
    await client.close()
    promise(statuses == {200}, statuses, "every request of a tenant to be answered")


async def _usage_is_refused(server: Server, tenants: Tenants) -> str:
    reply = await asyncio.to_thread(server.get, "/v1/usage", tenants.frugal_key)
    status, body = reply.status_code, reply.text
    promise(status == 503, f"{status} {body}", "503 while usage cannot be written")
    promise("quota store; got" in body and "full" in body, body, "the reason")
    ready = (await asyncio.to_thread(server.get, "/readyz")).status_code
    promise(ready == 200, ready, "a server that is ready all the same")
    return _reason(body)


async def _half_a_version_is_refused(server: Server, repository: RepositoryCopy, tenants: Tenants) -> str:
    """Publish as far as the disk goes, and not by the rules: in place."""
    try:
        repository.publish(2, in_place=True)
    except OSError as error:
        promise("space" in str(error), error, "a full disk")
    status, body = await _load(server, repository, tenants)
    promise(status == 503 and "expected" in body, f"{status} {body}", "a refusal with the reason")
    return _reason(body)


async def _load(server: Server, repository: RepositoryCopy, tenants: Tenants) -> tuple[int, str]:
    path = f"/v2/repository/models/{repository.family}/load"
    reply = await asyncio.to_thread(server.post, path, tenants.admin_key)
    return reply.status_code, reply.text


def _reason(body: str) -> str:
    """Return what an error says was wrong, without the folder that it was wrong in."""
    reason = str(json.loads(body)["error"]).partition("; expected")[0]
    return re.sub(r"\S*/", "", reason)
