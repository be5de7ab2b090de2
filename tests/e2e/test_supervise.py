"""A supervised server on the wire: one that is killed is followed by another, and a stop signal reaches it."""

import os
import re
import signal
import time
from pathlib import Path

import httpx

from loadtest.machine import free_ports
from tests.e2e.booting import booted

LIMIT_S = 20.0


def pids(log: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"worker_started pid=(\d+)", log)]


def test_a_killed_server_is_followed_by_another_until_one_is_told_to_stop():
    port, grpc_port = map(str, free_ports(2))
    with booted("--backend", "fake", "--supervise", "--port", port, "--grpc-port", grpc_port) as running:
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
