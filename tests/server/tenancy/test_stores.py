"""Both stores keep one promise: a batch counts once, quotas refill and pay, usage adds up and outlives a restart."""

import os
import shutil
import socket
import subprocess
import threading
import traceback
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.errors import Unavailable
from server.tenancy.sqlite_store import SqliteStore
from server.tenancy.store import Spend, Timestamp, Usage, UsageBatch, read_boot, refilled
from server.tenancy.store_sync import open_store

DAY = "2026-11-24"
SPEND = Spend("acme", 30.0, 10.0, 100.0)


def at(steady_s: float, *, stepped_s: float = 0.0, boot: str = "boot") -> Timestamp:
    """Return a moment at which the wall clock has been stepped by so much."""
    return Timestamp(1.7e9 + steady_s + stepped_s, steady_s, boot)


def usage(tenant="acme", model="m", day=DAY, **counts):
    return Usage(tenant, model, day, **counts)


@contextmanager
def redis_server():
    """A Redis of our own on a free port, in memory; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if "eady to accept" in line:
                break
        drain = threading.Thread(target=process.stdout.read)
        drain.start()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(30)
        drain.join(30)
        process.stdout.close()


needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on PATH")


@pytest.fixture(scope="module")
def redis_url():
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on PATH")
    with redis_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path}/quota.sqlite3"
        return
    import redis

    url = request.getfixturevalue("redis_url")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    yield url


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()


def test_a_new_quota_is_full_and_pays(store):
    assert store.sync(UsageBatch("a", 1, [SPEND], []), at(1000.0))["acme"] == 70


def test_quotas_of_several_tenants_are_apart(store):
    other = Spend("zeta", 5.5, 1.5, 10.25)
    assert store.sync(UsageBatch("a", 1, [SPEND, other], []), at(1000.0)) == {"acme": 70, "zeta": 4.75}


def test_a_quota_refills_until_it_is_spent_and_again_after(store):
    def left(number, flops, second, ago_s):
        batch = UsageBatch("a", number, [Spend("zeta", flops, 1.5, 10.0, ago_s)], [])
        return store.sync(batch, at(second))["zeta"]

    assert left(1, 0.0, 1000.0, 0.0) == 10.0
    if not isinstance(store, SqliteStore):  # Redis has a clock of its own
        return
    assert left(2, 9.0, 1002.0, 2.0) == 4.0  # a full quota loses nothing of what refills after it was spent
    assert left(3, 2.0, 1014.0, 0.0) == 8.0  # and gains nothing while it is full
    assert left(4, 3.0, 1015.0, 9.0) == 6.5  # no longer ago than the last sync
    assert left(5, -9.0, 1015.0, 0.0) == 10.0


def test_a_batch_that_comes_again_counts_once(store):
    batch = UsageBatch("a", 1, [SPEND], [usage(num_requests=1, useful_flops=7)])
    first = store.sync(batch, at(1000.0))
    assert store.sync(batch, at(1000.0)) == first
    store.sync(UsageBatch("b", 1, [], [usage(num_requests=1)]), at(1000.0))
    (seen,) = store.usage(None, "")
    assert (seen.num_requests, seen.useful_flops) == (2, 7)


def test_usage_adds_up_by_tenant_model_and_day(store):
    large = 2**53 + 1  # a float would round it
    store.sync(UsageBatch("a", 1, [], [usage(executed_flops=large), usage(model="n|o", wasted_flops=2)]), at(0.0))
    store.sync(
        UsageBatch("a", 2, [], [usage(executed_flops=1), usage("zeta", day="2026-11-25", num_samples=3)]), at(0.0)
    )
    assert store.usage(None, "") == [
        usage(executed_flops=large + 1),
        usage(model="n|o", wasted_flops=2),
        usage("zeta", day="2026-11-25", num_samples=3),
    ]
    assert [each.tenant for each in store.usage(["acme"], "")] == ["acme", "acme"]
    assert [each.tenant for each in store.usage(None, "2026-11-25")] == ["zeta"]


def test_all_of_it_outlives_a_restart(url):
    store = open_store(url)
    store.sync(UsageBatch("a", 1, [Spend("acme", 60.5, 1e-9, 100.0)], [usage(num_requests=1)]), at(1000.0))
    store.close()
    store = open_store(url)
    assert store.sync(UsageBatch("b", 1, [Spend("acme", 0.0, 1e-9, 100.0)], []), at(1000.0))["acme"] == pytest.approx(
        39.5
    )
    assert store.usage(None, "") == [usage(num_requests=1)]
    store.close()


def test_two_servers_share_a_quota(url):
    one, other = open_store(url), open_store(url)
    slow = Spend("acme", 40.0, 1e-9, 100.0)
    assert one.sync(UsageBatch("a", 1, [slow], []), at(1000.0))["acme"] == pytest.approx(60)
    assert other.sync(UsageBatch("b", 1, [slow], []), at(1000.0))["acme"] == pytest.approx(20)
    assert one.sync(UsageBatch("a", 2, [slow], []), at(1000.0))["acme"] == pytest.approx(-20)
    one.close()
    other.close()


flops = st.floats(-1e15, 1e15)


@given(st.lists(flops, min_size=1, max_size=6), st.floats(1, 1e15))
@settings(max_examples=30, suppress_health_check=list(HealthCheck))
def test_both_stores_do_the_same_sums(redis_url, spends, burst):
    """With a rate that adds next to nothing while the test runs, what is left is the same."""
    import redis

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    for url in ("memory", redis_url):
        store, level = open_store(url), burst
        for number, spent in enumerate(spends, start=1):
            spend = Spend("acme", spent, 1e-300, burst)
            level = refilled(level, 0.0, spend)
            left = store.sync(UsageBatch("a", number, [spend], []), at(0.0))
            assert left == {"acme": pytest.approx(level, rel=1e-15, abs=1e-290)}
        store.close()


def test_a_quota_refills_with_time(tmp_path):
    store = open_store(f"sqlite:{tmp_path}/quota.sqlite3")
    store.sync(UsageBatch("a", 1, [Spend("acme", 100.0, 10.0, 100.0)], []), at(1000.0))
    still = Spend("acme", 0.0, 10.0, 100.0)
    levels = [
        store.sync(UsageBatch("a", n, [still], []), at(now))["acme"]
        for n, now in ((2, 1003.0), (3, 1001.0), (4, 2000.0))
    ]
    assert levels == [30, 30, 100]
    store.close()


HOURS_S = 6 * 3600.0


@pytest.mark.parametrize("stepped_s", [HOURS_S, -HOURS_S])
def test_a_step_of_the_wall_clock_neither_fills_a_quota_nor_stops_it(tmp_path, stepped_s):
    store = open_store(f"sqlite:{tmp_path}/quota.sqlite3")
    store.sync(UsageBatch("a", 1, [Spend("acme", 100.0, 10.0, 100.0)], []), at(1000.0))
    still = Spend("acme", 0.0, 10.0, 100.0)
    moments = [at(1003.0, stepped_s=stepped_s), at(1004.0, stepped_s=stepped_s), at(1005.0)]
    assert [store.sync(UsageBatch("a", n, [still], []), now)["acme"] for n, now in enumerate(moments, 2)] == [
        30,
        40,
        50,
    ]
    store.close()


def test_across_a_start_of_the_machine_the_wall_clock_has_to_do(tmp_path):
    store = open_store(f"sqlite:{tmp_path}/quota.sqlite3")
    store.sync(UsageBatch("a", 1, [Spend("acme", 100.0, 10.0, 100.0)], []), at(1000.0))
    still = Spend("acme", 0.0, 10.0, 100.0)
    later = at(2.0, stepped_s=1001.0, boot="another")
    assert store.sync(UsageBatch("b", 1, [still], []), later)["acme"] == 30
    back = at(1.0, stepped_s=-HOURS_S, boot="a third")
    assert store.sync(UsageBatch("c", 1, [still], []), back)["acme"] == 30
    assert store.sync(UsageBatch("c", 2, [still], []), at(3.0, stepped_s=-HOURS_S, boot="a third"))["acme"] == 50
    store.close()


def test_a_start_of_the_machine_is_named_where_the_system_names_it():
    assert read_boot() == read_boot()


def test_a_full_disk_is_named_and_nothing_is_lost_or_counted_twice(tmp_path):
    store = open_store(f"sqlite:{tmp_path}/quota.sqlite3")
    batch = UsageBatch("a", 1, [SPEND], [usage(f"tenant{n}", num_requests=1) for n in range(2000)])
    (num_pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {num_pages}")
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"got .*database or disk is full; expected a file"):
            store.sync(batch, at(1000.0))
    assert store.usage(None, "") == []
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.sync(batch, at(1000.0))["acme"] == 70
    assert len(store.usage(None, "")) == 2000
    store.close()


@pytest.mark.parametrize(
    "place",
    [
        "sqlite:no/such/folder/x.sqlite3",
        "redis://:hunter2@127.0.0.1:1/0",
        "redis://127.0.0.1:1/0?password=hunter2",
        "redis://:a#hunter2@127.0.0.1:1/0",
        "redis://:hunter2/x@127.0.0.1:1/0",
        "redis://127.0.0.1:hunter2/0",
    ],
)
def test_a_store_that_cannot_be_opened_is_named_without_its_password(place):
    with pytest.raises(Unavailable, match="quota store; got ") as failure:
        open_store(place)
    told = "".join(traceback.format_exception(failure.value))
    assert "hunter2" not in told.replace(place, "")


# --- An SQLite file that is not what it was --------------------------------------------------


class Kept:
    """An SQLite store in a folder of its own, and what it has been told so far."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "quota.sqlite3"
        self.store, self.number = open_store(f"sqlite:{self.path}"), 0

    def sync(self):
        self.number += 1
        self.store.sync(UsageBatch("a", self.number, [SPEND], [usage(num_requests=1)]), at(float(self.number)))

    def on_disk(self):
        """Return the requests that another server would find."""
        other = open_store(f"sqlite:{self.path}")
        counted = sum(each.num_requests for each in other.usage(None, ""))
        other.close()
        return counted


@pytest.fixture
def kept(tmp_path):
    (tmp_path / "store").mkdir()
    kept = Kept(tmp_path / "store")
    kept.sync()
    kept.sync()
    yield kept
    kept.store.close()


def unlink(kept):
    kept.path.unlink()


def unlink_all(kept):
    for path in kept.folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("remove", [unlink, unlink_all])
def test_a_file_that_was_removed_is_noticed_and_comes_back_with_all_it_held(kept, remove, caplog):
    for number in (3, 4):
        remove(kept)
        kept.sync()
        assert kept.on_disk() == number
    assert caplog.text.count("quota_store_removed") == 2


def test_a_folder_that_is_gone_is_told_until_it_is_back(kept, caplog):
    shutil.rmtree(kept.folder)
    for _ in range(2):
        with pytest.raises(Unavailable, match="unable to open database file"):
            kept.sync()
    kept.folder.mkdir()
    kept.sync()
    assert kept.on_disk() == 3
    assert caplog.text.count("quota_store_removed") == 1


def test_another_file_in_its_place_counts_from_then_on(kept, tmp_path, caplog):
    open_store(f"sqlite:{tmp_path / 'other.sqlite3'}").close()
    (tmp_path / "other.sqlite3").replace(kept.path)
    kept.sync()
    assert kept.on_disk() == 1
    assert "quota_store_replaced" in caplog.text


def test_a_file_that_was_cut_short_is_told_until_it_is_removed(kept):
    os.truncate(kept.path, 0)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"cut from \d+ to 0 bytes"):
            kept.sync()
    kept.path.unlink()
    kept.sync()
    assert kept.on_disk() == 3


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_told_and_opened_by_nobody(kept, make):
    kept.path.unlink()
    make(kept.path)
    with pytest.raises(Unavailable, match="no regular file"):
        kept.sync()
    with pytest.raises(Unavailable, match="no regular file"):
        open_store(f"sqlite:{kept.path}")
    kept.path.rmdir() if kept.path.is_dir() else kept.path.unlink()
    kept.sync()
    assert kept.on_disk() == 3
