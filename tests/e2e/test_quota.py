"""Quotas and usage of real servers: through a stop, a kill and a restart, and shared by two servers through Redis."""

import time

import httpx
import pytest

from loadtest.process import start_server
from server.backends.fake import fake_manifest
from server.budget import BudgetTable
from tests.server.surface import photo
from tests.server.tenancy.tenants import ACME, bearer, write_tenants
from tests.server.tenancy.test_stores import needs_redis, redis_server

PATIENCE_S = 20.0
CHEAPEST = BudgetTable(fake_manifest()).worst_flops[0]
SLOW = "flops_per_s = 0.001"


def ask(url):
    """Classify at cap 0; give the receipt, or None where the quota refuses."""
    response = httpx.post(f"{url}/v1/classify?max_tape=0", content=photo(), headers=bearer(ACME), timeout=60)
    if response.status_code == 429:
        return None
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    return result["receipt"]


def usage(url):
    (report,) = httpx.get(f"{url}/v1/usage", headers=bearer(ACME), timeout=60).json()["tenants"]
    return report


def options(tmp_path, store, **limits):
    path = write_tenants(tmp_path, **limits)
    return ("--backend", "fake", "--tenants-file", str(path), "--quota-store", store, "--quota-sync-s", "0.05")


@pytest.mark.parametrize("is_killed", [False, True])
def test_quota_and_usage_outlive_the_process(tmp_path, is_killed):
    arguments = options(tmp_path, f"sqlite:{tmp_path}/quota.sqlite3", acme=f"{SLOW}\nburst_flops = 1e6")
    with start_server(*arguments) as running:
        receipts = [ask(running.url) for _ in range(10)]
        before = usage(running.url)  # asking writes: nothing is left that a kill could lose
        if is_killed:
            running.process.kill()
            running.wait_for_end()
    with start_server(*arguments) as running:
        after = usage(running.url)
    assert after["total"] == before["total"]
    assert after["total"]["num_requests"] == 10
    assert after["total"]["useful_flops"] == sum(receipt["useful_flops"] for receipt in receipts)
    left = after["quota"]["remaining_flops"]
    assert left == pytest.approx(1e6 - after["total"]["useful_flops"], abs=1)


@needs_redis
def test_two_servers_share_a_quota_through_redis(tmp_path):
    num_affordable = 20
    limit = f"{SLOW}\nburst_flops = {num_affordable * CHEAPEST}\nsoft_share = 0"
    with redis_server() as store:
        arguments = options(tmp_path, store, acme=limit)
        with start_server(*arguments) as one, start_server(*arguments) as other:
            answered = []
            give_up = time.monotonic() + PATIENCE_S
            while (receipts := [ask(server.url) for server in (one, other)]) != [None, None]:
                answered += [receipt for receipt in receipts if receipt is not None]
                assert time.monotonic() < give_up
            reports = [usage(server.url) for server in (one, other)]
        with start_server(*arguments) as third:
            assert ask(third.url) is None
            total = usage(third.url)["total"]
    # Each knows of the other's spending after one sync: together they get ahead by what one may spend in between.
    assert num_affordable <= len(answered) <= 2 * num_affordable
    assert total["num_requests"] == len(answered)
    assert total["useful_flops"] == sum(receipt["useful_flops"] for receipt in answered)
    assert all(report["quota"]["remaining_flops"] < CHEAPEST for report in reports)
