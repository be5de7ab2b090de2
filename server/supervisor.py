"""`--supervise`: a parent that starts the server anew when it crashes, or no longer says that it lives.

    start ──> serving ── crash, "not live" twice, or three probes in vain ──> start again, after a pause that doubles
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
from enum import Enum
from typing import Protocol

from server.settings import ENV_PREFIX, Settings

_log = logging.getLogger("adatape.supervisor")

FIRST_PROBES_S = 0.2
"""How often it is asked until it serves: what crashes before that is not started again."""
PROBE_TIMEOUT_S = 2.0
MAX_DOUBT = 3
SUPERVISED = f"{ENV_PREFIX}SUPERVISED"
"""The variable that tells a server that another takes its place if it ends."""
DOWN_SINCE = f"{ENV_PREFIX}DOWN_SINCE_S"
"""The variable that tells a server since when, on the monotonic clock, the one before it was of no use."""
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
STEADY_S = 30.0
"""After so long without a crash the pause begins anew."""


class Word(Enum):
    """What a probe hears: how soon to ask again, and how much it adds to the doubt."""

    LIVE = (0.25, 0)
    NOT_LIVE = (0.1, 2)
    """It says so itself; it may have recovered by the next word."""
    SILENT = (1.0, 1)
    """It may only be slow."""

    def __init__(self, again_s: float, doubt: int) -> None:
        self.again_s = again_s
        self.doubt = doubt


class Worker(Protocol):
    """The server's process, as `subprocess.Popen` has it."""

    pid: int

    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Supervisor:
    """Keeps one worker running. `start` starts it, told since when there was none; `probe` asks it; `pause` waits."""

    def __init__(
        self,
        start: Callable[[float | None], Worker],
        probe: Callable[[], Word],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._start = start
        self._probe = probe
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
        pause_s, has_served, down_since_s = FIRST_PAUSE_S, False, None
        while True:
            started_s = self._clock()
            self._worker = worker = self._start(down_since_s)
            _log.info("worker_started pid=%d", worker.pid)
            status, served, down_since_s = self._watch(worker)
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

    def _watch(self, worker: Worker) -> tuple[int, bool, float]:
        """Return a worker's exit status, whether it ever served, and since when it did not; kill one that is stuck."""
        has_served, doubt, word, since_s = False, 0, Word.LIVE, 0.0
        while True:
            try:
                status = worker.wait(word.again_s if has_served else FIRST_PROBES_S)
                return status, has_served, since_s if doubt else self._clock()
            except subprocess.TimeoutExpired:
                asked_s = self._clock()
                word = self._probe()
            has_served = has_served or word is Word.LIVE
            since_s = since_s if doubt else asked_s
            doubt = doubt + word.doubt if word.doubt and has_served and not self._stopping.is_set() else 0
            if doubt >= MAX_DOUBT > doubt - word.doubt:
                _log.error("worker_not_live pid=%d word=%s", worker.pid, word.name.lower())
                worker.kill()


def supervise(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the server of these arguments under a supervisor until a stop signal; return the exit status."""
    command = [sys.executable, "-m", "server", *(each for each in arguments if each != "--supervise")]
    environment = {name: value for name, value in os.environ.items() if name.upper() != f"{ENV_PREFIX}SUPERVISE"}

    def start(down_since_s: float | None) -> subprocess.Popen[bytes]:
        told = {SUPERVISED: "1"} if down_since_s is None else {SUPERVISED: "1", DOWN_SINCE: str(down_since_s)}
        # A group of its own: a terminal's Ctrl-C, passed on by us, would reach it twice and cut its drain short.
        return subprocess.Popen(command, env=environment | told, process_group=0)

    supervisor = Supervisor(start, Probe(settings))
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

    def __call__(self) -> Word:
        """Return what the worker says of itself."""
        if self._url is None:
            return Word.LIVE
        try:
            with urllib.request.urlopen(self._url, timeout=PROBE_TIMEOUT_S, context=self._context):  # noqa: S310  # nosec B310
                return Word.LIVE
        except urllib.error.HTTPError as error:
            # Whoever is refused for want of a connection is told when to come again, and the server is well.
            return Word.LIVE if "Retry-After" in error.headers else Word.NOT_LIVE
        except OSError:
            return Word.SILENT


def take_is_supervised() -> bool:
    """Return whether a supervisor has started this process, and will start another if it ends."""
    return os.environ.pop(SUPERVISED, None) is not None


def take_downtime_s(clock: Callable[[], float] = time.monotonic) -> float | None:
    """Return for how long there was no server that answered, where this one was started in place of another."""
    since = os.environ.pop(DOWN_SINCE, None)
    return None if since is None else clock() - float(since)
