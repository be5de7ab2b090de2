"""`--supervise`: a parent that starts the server anew when it crashes, or no longer says that it lives.

    start ──> serving ── crash, or three probes in vain ──> start again, after a pause that doubles
                │
                └── stop signal ──> passed on; its exit status is ours

A server that ends before it has ever served would only end again, so its status is returned at once.
"""

import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Protocol

from server.settings import ENV_PREFIX, Settings

_log = logging.getLogger("adatape.supervisor")

PROBE_EVERY_S = 1.0
FIRST_PROBES_S = 0.2
"""How often it is asked until it serves: what crashes before that is not started again."""
PROBE_TIMEOUT_S = 2.0
MAX_FAILED_PROBES = 3
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
STEADY_S = 30.0
"""After so long without a crash the pause begins anew."""


class Worker(Protocol):
    """The server's process, as `subprocess.Popen` has it."""

    pid: int

    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Supervisor:
    """Keeps one worker running. `start` starts it, `is_live` probes it, `pause` waits between two starts."""

    def __init__(
        self,
        start: Callable[[], Worker],
        is_live: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._start = start
        self._is_live = is_live
        self._clock = clock
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._worker: Worker | None = None

    def stop(self, number: int) -> None:
        """Pass a stop signal on, and start nothing more."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.send_signal(number)

    def run(self) -> int:
        """Keep a worker running until it is told to stop; return its exit status."""
        pause_s, has_served = FIRST_PAUSE_S, False
        while True:
            started_s = self._clock()
            self._worker = worker = self._start()
            _log.info("worker_started pid=%d", worker.pid)
            status, served = self._watch(worker)
            has_served = has_served or served
            if self._stopping.is_set() or not has_served or status == 0:
                return status
            if self._clock() - started_s > STEADY_S:
                pause_s = FIRST_PAUSE_S
            _log.error("worker_ended pid=%d status=%d restart_s=%g", worker.pid, status, pause_s)
            self._pause(pause_s)
            if self._stopping.is_set():
                return status
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _watch(self, worker: Worker) -> tuple[int, bool]:
        """Return the exit status of a worker, and whether it ever served; one that is not live any more is killed."""
        has_served, num_failed = False, 0
        while True:
            try:
                return worker.wait(PROBE_EVERY_S if has_served else FIRST_PROBES_S), has_served
            except subprocess.TimeoutExpired:
                is_live = self._is_live()
            has_served = has_served or is_live
            num_failed = 0 if is_live or not has_served or self._stopping.is_set() else num_failed + 1
            if num_failed == MAX_FAILED_PROBES:
                _log.error("worker_not_live pid=%d probes=%d", worker.pid, num_failed)
                worker.kill()


def supervise(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the server of these arguments under a supervisor until a stop signal; return the exit status."""
    command = [sys.executable, "-m", "server", *(each for each in arguments if each != "--supervise")]
    environment = {name: value for name, value in os.environ.items() if name.upper() != f"{ENV_PREFIX}SUPERVISE"}
    # A group of its own: a terminal's Ctrl-C, passed on by us, would reach it twice and cut its drain short.
    supervisor = Supervisor(lambda: subprocess.Popen(command, env=environment, process_group=0), Probe(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: supervisor.stop(received))
    return supervisor.run()


class Probe:
    """Asks the worker whether it lives; one that picks its own port, or wants a certificate of us, is believed."""

    def __init__(self, settings: Settings) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # nosec B104
        place = f"[{host}]" if ":" in host else host
        scheme = "https" if settings.tls_cert is not None else "http"
        is_asked = settings.port != 0 and settings.tls_client_ca is None
        self._url = f"{scheme}://{place}:{settings.port}/healthz" if is_asked else None
        self._context = ssl._create_unverified_context() if scheme == "https" else None  # noqa: S323, SLF001  # nosec B323

    def __call__(self) -> bool:
        """Return whether the worker says that it lives."""
        if self._url is None:
            return True
        try:
            with urllib.request.urlopen(self._url, timeout=PROBE_TIMEOUT_S, context=self._context):  # noqa: S310  # nosec B310
                return True
        except (urllib.error.URLError, OSError):
            return False
