"""A supervised server on the wire: one that is killed is followed by another, and a stop signal reaches it."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from loadtest.machine import free_ports, has_ended
from loadtest.process import Server, start_server, wait_until

LIMIT_S = 20.0


def pids(log: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"worker_started pid=(\d+)", log)]


def test_a_killed_server_is_followed_by_another_until_one_is_told_to_stop():
    with supervised() as running:
        time.sleep(1)  # the supervisor has to have seen it live
        os.kill(pids(running.log)[0], signal.SIGKILL)
        wait_until(lambda: running.log.count("serving url=") == 2, LIMIT_S, "a second server")
        metrics = httpx.get(f"{running.url}/metrics").text
        assert 'adatape_recovery_seconds_count{fault="process"} 1' in metrics
        assert running.stop() == 0
        first, second = pids(running.log)
        assert f"worker_ended pid={first} status=-9" in running.log
        assert not Path(f"/proc/{second}").exists()


@contextmanager
def supervised() -> Iterator[Server]:
    port, grpc_port = map(str, free_ports(2))
    with start_server("--backend", "fake", "--supervise", "--port", port, "--grpc-port", grpc_port) as running:
        yield running


def test_a_hangup_is_passed_on_and_ends_nobody():
    with supervised() as running:
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_log("reloading signal=SIGHUP", LIMIT_S)
        assert httpx.get(f"{running.url}/readyz").status_code == 200
        running.process.send_signal(signal.SIGUSR1)
        running.process.send_signal(signal.SIGQUIT)
        assert running.wait_for_end() == 0
    assert len(pids(running.log)) == 1
    assert "abandoned=0" in running.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_server_never_outlives_its_supervisor(number):
    with supervised() as running:
        (worker,) = pids(running.log)
        url = httpx.URL(running.url)
        running.process.send_signal(number)
        assert running.wait_for_end() == -number
        wait_until(lambda: has_ended(worker), LIMIT_S, "the end of the server")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")
