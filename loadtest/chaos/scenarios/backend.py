"""A backend that raises, hangs, lies or runs out of memory."""

import asyncio
import time

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import MAX_RECOVERY_S, NUM_CALLERS, Load, ScenarioServers, classify, load_on, until_answered
from loadtest.metrics import total
from loadtest.process import Server

NUM_FAULTS = 5
NUM_AT_ONCE = 64
_POLL_S = 0.01


async def _inject(server: Server, mark: str) -> tuple[int, int]:
    """Ask for a fault several times under load; return how many of its calls, and of the others, failed.

    Raises: Broken if the fault's calls do not fail clearly, or others are not answered after each.
    """
    replies = []
    async with load_on(server) as load:
        for _ in range(NUM_FAULTS):
            replies.append(await classify(server, mark))
            await _until_more(load)
    statuses = {reply.status for reply in replies}
    promise(statuses == {500}, statuses, "500 for each call with the fault")
    texts = {reply.body for reply in replies}
    promise(all(b'"error"' in text for text in texts), texts, "a message that says what failed")
    promise(set(load.statuses) <= {200, 500}, dict(load.statuses), "200 or 500")
    return len(replies), load.num_failed


async def _until_more(load: Load) -> None:
    """Wait until another of the load's calls has been answered."""
    num_answered, started_s = load.statuses[200], time.monotonic()
    while load.statuses[200] == num_answered:
        is_late = time.monotonic() - started_s > MAX_RECOVERY_S
        promise(not is_late, dict(load.statuses), "others to be answered meanwhile")
        await asyncio.sleep(_POLL_S)


async def _recovery_s(server: Server, fault: str) -> float:
    """Return the mean recovery from a fault, none of which took too long, by the server's own metric."""
    await until_answered(server)
    counts = server.metrics()
    number = total(counts, "adatape_recovery_seconds_count", fault=fault)
    promise(number >= 1, number, f"a recovery from {fault} in the metrics")
    in_time = total(counts, "adatape_recovery_seconds_bucket", fault=fault, le=f"{MAX_RECOVERY_S}")
    promise(in_time == number, f"{in_time:g} of {number:g} recoveries", f"each in less than {MAX_RECOVERY_S:g} s")
    return total(counts, "adatape_recovery_seconds_sum", fault=fault) / number


async def _fail_batches(servers: ScenarioServers, fault: str) -> str:
    """Hold a fault to its promise: it costs its own batch, and the server recovers."""
    with servers.fake("--fake-faults", fault) as server:
        num_calls, num_mates = await _inject(server, fault)
        promise(num_mates <= num_calls * NUM_CALLERS, num_mates, "no more than batch-mates")
        seconds = await _recovery_s(server, "failure")
    return f"{num_calls} faults, {num_mates} batch-mates failed too, recovered after {seconds:.3f} s"


@scenario
async def a_batch_that_raises(servers: ScenarioServers) -> str:
    """A batch that raises fails its own requests, with a reason, and no other."""
    return await _fail_batches(servers, "raise")


@scenario
async def a_batch_of_the_wrong_shape(servers: ScenarioServers) -> str:
    """A backend that returns too few rows fails that batch, and nobody gets another's answer."""
    return await _fail_batches(servers, "shape")


@scenario
async def logits_that_are_nan(servers: ScenarioServers) -> str:
    """NaN fails the one request that it belongs to."""
    with servers.fake("--fake-faults", "nan") as server:
        num_calls, num_others = await _inject(server, "nan")
    promise(num_others == 0, num_others, "no other request to fail")
    return f"{num_calls} faults, {num_others} others failed"


@scenario
async def a_batch_that_hangs(servers: ScenarioServers) -> str:
    """An execution that never ends is given up, its instance replaced, and what waits is answered."""
    with servers.fake("--fake-faults", "hang") as server:
        async with load_on(server) as load:
            started_s = time.monotonic()
            reply = await classify(server, "hang")
            told_s = time.monotonic() - started_s
        promise(reply.status == 500, reply.status, "500")
        promise(b"no end after" in reply.body, reply.body, "a message that says that it hung")
        promise(load.num_failed <= NUM_CALLERS, dict(load.statuses), "no more than batch-mates to fail")
        seconds = await _recovery_s(server, "hang")
        live = server.get("/healthz").status_code
        promise(live == 200, live, "the server to live")
    return f"told after {told_s:.2f} s, {load.num_failed} batch-mates failed too, recovered after {seconds:.2f} s"


@scenario
async def executions_that_hang_one_after_another(servers: ScenarioServers) -> str:
    """After several hangs in a row the server says that it does not live."""
    with servers.fake("--fake-faults", "hang", "--hang-timeout-s", "0.5") as server:
        for _ in range(3):
            await classify(server, "hang")
        reply = await asyncio.to_thread(server.get, "/healthz")
        status, body = reply.status_code, reply.text
        promise(status == 503, status, "503 from /healthz")
        await until_answered(server)
        back = (await asyncio.to_thread(server.get, "/healthz")).status_code
        promise(back == 200, back, "200 once an execution ended well")
    return f"not live after 3 hangs: {body[:60]}"


@scenario
async def a_batch_that_does_not_fit_into_memory(servers: ScenarioServers) -> str:
    """A batch that does not fit is halved until it does, and everyone is answered."""
    with servers.fake("--fake-faults", "oom=4") as server:
        async with load_on(server, NUM_AT_ONCE) as load:
            await asyncio.sleep(2.0)
        promise(load.num_failed == 0, dict(load.statuses), "every request to be answered")
        halvings = [line for line in server.lines if "batch_halved" in line]
        promise(bool(halvings), "none", "batches to be halved")
        seconds = await _recovery_s(server, "memory")
    return f"{load.statuses[200]} answered, {len(halvings)} halvings, recovered after {seconds:.3f} s"
