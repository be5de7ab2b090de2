"""A supervised server on the wire: one that is killed is followed by another, and a stop signal reaches it."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from loadtest.machine import free_ports, has_ended
from tests.e2e.booting import Running, booted

LIMIT_S = 20.0


def pids(log: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"worker_started pid=(\d+)", log)]


def test_a_killed_server_is_followed_by_another_until_one_is_told_to_stop():
    with supervised() as running:
        time.sleep(1)  # the supervisor has to have seen it live
        os.kill(pids(running.log)[0], signal.SIGKILL)
        started_s = time.monotonic()
        while running.log.count("serving url=") < 2:
            assert time.monotonic() - started_s < LIMIT_S, running.log
            time.sleep(0.05)
        metrics = httpx.get(f"{running.url}/metrics").text
        assert 'adatape_recovery_seconds_count{fault="process"} 1' in metrics
        assert running.stop() == 0
    first, second = pids(running.log)
    assert f"worker_ended pid={first} status=-9" in running.log
    assert not Path(f"/proc/{second}").exists()


@contextmanager
def supervised() -> Iterator[Running]:
    port, grpc_port = map(str, free_ports(2))
    with booted("--backend", "fake", "--supervise", "--port", port, "--grpc-port", grpc_port) as running:
        yield running


def until(is_so: Callable[[], bool]) -> None:
    started_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - started_s < LIMIT_S
        time.sleep(0.02)


def test_a_hangup_is_passed_on_and_ends_nobody():
    with supervised() as running:
        running.process.send_signal(signal.SIGHUP)
        until(lambda: "reloading signal=SIGHUP" in running.log)
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        running.process.send_signal(signal.SIGUSR1)
        running.process.send_signal(signal.SIGQUIT)
        assert running.ended() == 0
    assert len(pids(running.log)) == 1
    assert "abandoned=0" in running.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_server_never_outlives_its_supervisor(number):
    with supervised() as running:
        (worker,) = pids(running.log)
        url = httpx.URL(running.url)
        running.process.send_signal(number)
        assert running.ended() == -number
        until(lambda: has_ended(worker))
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")
