"""The watch over the tenants file: nothing that is put there ends it, and old keys lose in the end."""

import asyncio
import os
import shutil
import time

import pytest

from server.metrics import Metrics
from server.settings import Settings
from server.tenancy import Tenancy, make_key, read_tenants_file
from tests.server.host.test_files import KINDS
from tests.server.surface import make_app
from tests.server.tenancy.tenants import ACME, access, write_tenants

GRACE_S = 60.0


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tenancy(tmp_path, clock):
    settings = Settings(backend="fake", tenants_grace_s=GRACE_S, **access(tmp_path))
    return Tenancy(settings, Metrics(), clock)


def too_deep(path):
    path.write_text("a = " + "[" * 100_000)


def too_many_parts(path):
    path.write_text("a" + ".a" * 100_000 + " = 1")


def too_many_parts_inside(path):
    path.write_text("a = {" + "a." * 100_000 + "a = 1}")


def too_large(path):
    path.write_text("#" * (4 * 1024 * 1024 + 1))


def a_number_without_end(path):
    path.write_text("a = " + "9" * 100_000)


def not_utf8(path):
    path.write_bytes(b"\xff")


def none(path):
    pass


DAMAGES = {
    **{name.strip(): make for name, make in KINDS.items()},
    **{
        make.__name__: make
        for make in (too_deep, too_many_parts, too_many_parts_inside, too_large, a_number_without_end, not_utf8, none)
    },
}


def damage(path, make):
    path.unlink()
    make(path)


def clear(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.mark.parametrize("kind", DAMAGES)
async def test_the_last_good_keys_count_for_a_while_then_none_do_and_a_good_file_ends_it(
    tmp_path, tenancy, clock, kind, caplog
):
    path = tmp_path / "tenants.toml"
    started_s = time.process_time()
    damage(path, DAMAGES[kind])
    await tenancy.refresh()
    assert time.process_time() - started_s < 1
    shown = tenancy._metrics.registry.get_sample_value
    assert shown("adatape_tenants_last_read_ok") == 0
    assert shown("adatape_tenants_reads_total", {"result": "refused"}) == 1
    clock.now_s += GRACE_S - 1
    await tenancy.refresh()
    assert tenancy.authenticator.ring.find(ACME).tenant == "acme"
    clock.now_s += 1
    await tenancy.refresh()
    await tenancy.refresh()
    assert tenancy.authenticator.ring.find(ACME) is None
    assert caplog.text.count("tenants_refused") == caplog.text.count("tenants_expired") == 1
    clear(path)
    write_tenants(tmp_path)
    await tenancy.refresh()
    assert tenancy.authenticator.ring.find(ACME).tenant == "acme"
    assert shown("adatape_tenants_last_read_ok") == 1


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_start_with_such_a_file_is_one_line(tmp_path, kind):
    path = tmp_path / "tenants.toml"
    DAMAGES[kind](path)
    with pytest.raises(ValueError, match="tenants_file; got") as failure:
        read_tenants_file(path, None)
    assert "\n" not in str(failure.value)


async def test_keys_beside_the_file_outlive_it(tmp_path, clock):
    key, kept = make_key()
    settings = access(tmp_path, api_keys=f"acme={kept.line}", tenants_grace_s=GRACE_S)
    tenancy = Tenancy(Settings(backend="fake", **settings), Metrics(), clock)
    (tmp_path / "tenants.toml").unlink()
    await tenancy.refresh()
    clock.now_s += GRACE_S
    await tenancy.refresh()
    assert tenancy.authenticator.ring.find(key).tenant == "acme"
    assert tenancy.authenticator.ring.find(ACME) is None


async def test_a_withdrawn_key_is_refused_although_the_watch_has_met_every_damage_before(tmp_path):
    app = make_app(quota_sync_s=0.01, **access(tmp_path))
    tenancy, path = app.engine.tenancy, tmp_path / "tenants.toml"
    await tenancy.start()
    refused = lambda: tenancy._metrics.tenants_read.values["refused",]  # noqa: E731
    for number, make in enumerate(DAMAGES.values(), start=1):
        clear(path)
        make(path)
        tenancy.reload()
        while refused() < number:  # noqa: ASYNC110 - a thread reads
            await asyncio.sleep(0)
    clear(path)
    path.write_text("[tenants.acme]\n")
    while tenancy.authenticator.ring.find(ACME) is not None:  # noqa: ASYNC110 - a thread reads
        await asyncio.sleep(0)
    assert all(not task._task.done() for task in tenancy._tasks)
    await tenancy.stop()


async def test_a_hangup_reads_a_file_again_that_looks_as_before(tmp_path, tenancy):
    path = tmp_path / "tenants.toml"
    before = path.stat()
    text = path.read_text()
    path.write_text(text.replace("[tenants.acme]", "[tenants.zeus]"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    tenancy.reload()
    await tenancy.refresh()
    assert tenancy.authenticator.ring.find(ACME).tenant == "zeus"
