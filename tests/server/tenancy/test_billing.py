"""Quotas at work: smaller caps, then 429; policies; and usage that is the sum of receipts, whatever happens."""

import asyncio
import io

import grpc
import httpx
import pytest
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from server.backends.fake import FAMILY, SIDE_PX, FakeModel, fake_manifest
from server.budget import BudgetTable
from tests.server.oip_grpc.calls import serving as serving_grpc
from tests.server.surface import make_app, photo, serving
from tests.server.tenancy.tenants import ACME, ADMIN, ZETA, access, bearer
from tests.server.tenancy.test_grpc_access import infer_request, shown

MANIFEST = fake_manifest()
WORST = BudgetTable(MANIFEST).worst_flops
CAPACITY = MANIFEST.tape_capacity
NEVER = 1e-9
"""A rate that refills nothing while a test runs."""
WHITE = photo(255)


def whitest():
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE_PX, SIDE_PX), "white").save(buffer, "PNG")
    return buffer.getvalue()


def quota(flops, soft_share=0.0):
    return f"flops_per_s = {NEVER}\nburst_flops = {flops}\nsoft_share = {soft_share}"


async def ask(client, key=ACME, **query):
    return await client.post("/v1/classify", content=WHITE, headers=bearer(key), params=query)


def receipt(response):
    (result,) = response.json()["results"]
    return result["receipt"]


async def usage(client, key=ACME, **query):
    response = await client.get("/v1/usage", headers=bearer(key), params=query)
    assert response.status_code == 200, response.text
    return response.json()["tenants"]


async def test_a_spent_quota_is_429_with_what_is_left(tmp_path):
    limits = {"acme": quota(WORST[-1] + WORST[0])}
    async with serving(**access(tmp_path, limits=limits)) as client:
        first, second, third = [await ask(client, max_tape=cap) for cap in (CAPACITY, 0, 0)]
    assert [response.status_code for response in (first, second, third)] == [200, 200, 429]
    left = [int(response.headers["X-Compute-Remaining-Flops"]) for response in (first, second, third)]
    assert left[0] - left[1] == receipt(second)["useful_flops"] == WORST[0]
    assert left[2] == left[1] < WORST[0]
    assert third.headers["X-Compute-Limit-Flops"] == str(WORST[-1] + WORST[0])
    assert int(third.headers["Retry-After"]) > 1000
    assert third.json()["error"].startswith("quota of acme; got ")


async def test_what_never_fits_has_no_time_to_come_back(tmp_path):
    async with serving(**access(tmp_path, limits={"acme": quota(WORST[0] - 1)})) as client:
        refused = await ask(client)
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, False)


async def test_below_the_soft_limit_caps_shrink_and_say_why(tmp_path):
    async with serving(**access(tmp_path, limits={"acme": quota(20 * WORST[-1], soft_share=1.0)})) as client:
        receipts = []
        while (response := await ask(client)).status_code == 200:
            receipts.append(receipt(response))
    assert response.status_code == 429
    caps = [each["cap"] for each in receipts]
    assert (caps[0], caps[-1], caps) == (CAPACITY, 0, sorted(caps, reverse=True))
    assert {each["budget_reason"] for each in receipts[1:]} == {"quota"}


async def test_a_smaller_ask_is_the_callers_own(tmp_path):
    async with serving(**access(tmp_path, limits={"acme": quota(2 * WORST[-1], soft_share=1.0)})) as client:
        await ask(client)
        assert receipt(await ask(client, max_tape=1))["budget_reason"] == "requested"


async def test_a_floor_holds_until_it_cannot_be_paid(tmp_path):
    limits = {"acme": quota(5 * WORST[-1], soft_share=1.0) + "\nmin_tape = 8"}
    async with serving(**access(tmp_path, limits=limits)) as client:
        caps = []
        while (response := await ask(client)).status_code == 200:
            caps.append(receipt(response)["cap"])
    assert min(caps) == 8


async def test_policies_cap_tape_and_priority(tmp_path):
    limits = {"acme": 'max_tape = 3\nmax_priority = "low"'}
    app = make_app(**access(tmp_path, limits=limits))
    seen = []
    admit = app.engine._ledger.open
    app.engine._ledger.open = lambda job: seen.append(job.request.ask.priority) or admit(job)
    async with serving(app) as client:
        mine = receipt(await ask(client, priority="high"))
        other = receipt(await ask(client, ZETA, priority="high"))
    assert (mine["cap"], mine["budget_reason"], other["cap"]) == (3, "policy", CAPACITY)
    assert seen == ["low", "high"]


async def test_pending_samples_are_bounded_by_tenant(tmp_path):
    app = make_app(**access(tmp_path, limits={"acme": "max_pending_samples = 1"}))
    async with serving(app) as client:
        app.engine.tenancy.account("acme").num_pending = 1
        refused = await ask(client)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert (await ask(client, ZETA)).status_code == 200
        app.engine.tenancy.account("acme").num_pending = 0
        assert (await ask(client)).status_code == 200
        assert app.engine.tenancy.account("acme").num_pending == 0


async def test_usage_is_the_sum_of_receipts(tmp_path):
    async with serving(**access(tmp_path, limits={"acme": quota(1e9)})) as client:
        mine = [receipt(await ask(client, max_tape=cap)) for cap in (0, 3, 8, 16)]
        await ask(client, max_tape=-1)
        (report,) = await usage(client)
        everyone = {each["tenant"]: each["total"] for each in await usage(client, ADMIN, tenant="*")}
    sums = {name: sum(each[name] for each in mine) for name in ("useful_flops", "executed_flops")}
    assert report["total"] == {"num_requests": 4, "num_samples": 4, "wasted_flops": 0, **sums}
    assert report["models"] == [{"model": FAMILY, **report["total"]}]
    assert report["quota"]["remaining_flops"] == pytest.approx(1e9 - sums["useful_flops"], abs=1e-3)
    assert everyone["acme"] == report["total"]
    assert everyone["zeta"]["num_requests"] == 0


async def test_others_usage_is_the_admins_to_see(tmp_path):
    async with serving(**access(tmp_path)) as client:
        for tenant, key, status in (
            ("zeta", ACME, 403),
            ("*", ACME, 403),
            ("zeta", ADMIN, 200),
            ("nobody", ADMIN, 404),
        ):
            response = await client.get("/v1/usage", headers=bearer(key), params={"tenant": tenant})
            assert response.status_code == status, response.text
        assert (await usage(client, since="2999-01-01"))[0]["total"]["num_requests"] == 0
        assert (await client.get("/v1/usage", headers=bearer(ACME), params={"since": "now"})).status_code == 400


async def test_keys_are_listed_by_id_only(tmp_path):
    async with serving(**access(tmp_path)) as client:
        shown = await client.get("/v1/keys", headers=bearer(ADMIN))
        assert (await client.get("/v1/keys", headers=bearer(ACME))).status_code == 403
    assert {"id": ACME[4:12], "tenant": "acme", "is_admin": False} in shown.json()["keys"]
    assert len(shown.json()["keys"]) == 3
    assert ACME not in shown.text


async def test_what_ran_in_vain_is_paid_for(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    app = make_app(**access(tmp_path, limits={"acme": quota(1e9)}))
    async with serving(app) as client:
        monkeypatch.setattr(FakeModel, "run_trunk", fail)
        assert (await ask(client)).status_code == 500
        (report,) = await usage(client)
        metrics = (await client.get("/metrics")).text
    wasted = report["total"]["wasted_flops"]
    assert wasted > 0
    assert report["total"]["num_requests"] == 0
    assert report["quota"]["remaining_flops"] == pytest.approx(1e9 - wasted, abs=1e-3)
    assert f'adatape_tenant_flops_total{{kind="wasted",tenant="acme"}} {float(wasted)}' in metrics
    assert 'adatape_tenant_requests_total{outcome="backend",tenant="acme"} 1.0' in metrics


async def turns_until(holds):
    """Let the event loop turn until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - the engine has no event for this
            await asyncio.sleep(0)


async def test_a_cancelled_request_gives_its_reservation_back(tmp_path):
    app = make_app(**access(tmp_path, limits={"acme": quota(1e9)}))
    account = app.engine.tenancy.account("acme")
    async with serving(app) as client:
        tasks = [asyncio.create_task(ask(client)) for _ in range(5)]
        await turns_until(lambda: account.num_pending > 0)
        assert account.bucket.level < 1e9
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await turns_until(lambda: app.engine.num_pending == 0 and app.engine._dispatcher.is_idle)
        assert account.num_pending == 0
        (report,) = await usage(client)
    spent = report["total"]["useful_flops"] + report["total"]["wasted_flops"]
    assert report["quota"]["remaining_flops"] == pytest.approx(1e9 - spent, abs=1e-3)


async def test_metrics_tell_who_always_wants_the_most(tmp_path):
    async with serving(**access(tmp_path)) as client:
        for content in (whitest(), photo(10)):
            await client.post("/v1/classify", content=content, headers=bearer(ACME))
        await ask(client, max_tape=0)
        metrics = (await client.get("/metrics")).text
    for want in ("maximum", "less", "unread"):
        assert f'adatape_tenant_samples_total{{tenant="acme",want="{want}"}} 1.0' in metrics


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
async def test_quota_and_usage_outlive_a_restart(tmp_path, kind):
    store = f"sqlite:{tmp_path}/quota.sqlite3" if kind == "sqlite" else kind
    settings = access(tmp_path, limits={"acme": quota(1e6)}, quota_store=store)
    async with serving(**settings) as client:
        await ask(client)
        (before,) = await usage(client)
    async with serving(**settings) as client:
        (after,) = await usage(client)
    left = [report["quota"]["remaining_flops"] for report in (before, after)]
    assert left[1] == pytest.approx(left[0] if kind == "sqlite" else 1e6)
    assert (after["total"] == before["total"]) == (kind == "sqlite")


async def test_a_store_that_fails_costs_no_request_and_no_receipt(tmp_path, monkeypatch, caplog):
    app = make_app(**access(tmp_path, limits={"acme": quota(1e9)}, quota_store=f"sqlite:{tmp_path}/q.sqlite3"))
    async with serving(app) as client:
        store = app.engine.tenancy.store_sync._store
        with monkeypatch.context() as patch:
            patch.setattr(store, "_db", FailingDatabase(store._db))
            for _ in range(3):
                assert (await ask(client, max_tape=0)).status_code == 200
                await app.engine.tenancy.store_sync.sync()
            assert (await client.get("/v1/usage", headers=bearer(ACME))).status_code == 503
        await app.engine.tenancy.store_sync.sync()
        (report,) = await usage(client)
    assert report["total"]["num_requests"] == 3
    assert report["quota"]["remaining_flops"] == pytest.approx(1e9 - report["total"]["useful_flops"], abs=1e-3)
    assert [caplog.text.count(event) for event in ("quota_store_failed", "quota_store_back")] == [1, 1]


class FailingDatabase:
    """A database whose disk is full: it takes no transaction."""

    def __init__(self, database):
        self._database = database

    def execute(self, statement, *arguments):
        import sqlite3

        if statement.startswith("COMMIT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self._database.execute(statement, *arguments)

    def __getattr__(self, name):
        return getattr(self._database, name)


async def test_quotas_hold_over_grpc(tmp_path):
    async with serving_grpc(**access(tmp_path, limits={"acme": quota(WORST[-1])})) as world:
        calls = [world.stub.ModelInfer(infer_request(), metadata=shown(ACME)) for _ in range(9)]
        refused = [call for call in calls if await call.code() is not grpc.StatusCode.OK]
        assert 0 < len(refused) < len(calls)
        assert await refused[-1].code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await refused[-1].details()).startswith("quota of acme; got ")
        trailers = dict(await refused[-1].trailing_metadata())
        assert int(trailers["retry-after"]) > 1000
        assert int(trailers["x-compute-limit-flops"]) == WORST[-1]
        assert int(trailers["x-compute-remaining-flops"]) < WORST[-1]
        assert (await world.stub.ServerLive(pb.ServerLiveRequest())).live


async def test_the_oip_pays_too(tmp_path):
    async with serving(**access(tmp_path, limits={"acme": quota(WORST[-1])})) as client:
        side = MANIFEST.preprocessing
        body = bytes(side.height * side.width * 3)
        headers = {**bearer(ACME), "Inference-Header-Content-Length": "0"}
        answers: list[httpx.Response] = [
            await client.post(f"/v2/models/{FAMILY}/infer", content=body, headers=headers) for _ in range(9)
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert "X-Compute-Remaining-Flops" in answers[0].headers
