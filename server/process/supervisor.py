"""`--supervise`: a parent that starts the server anew when it crashes, or no longer says that it lives.

The server is forked from a parent that has imported everything and runs nothing, so that the next one serves at once.

    start ──> serving ── crash, "not live" twice, or three probes in vain ──> start again, after a pause that doubles
                │
                └── stop signal ──> passed on; its exit status is ours

A server that ends before it has ever served would only end again, so its status is returned at once. It never outlives
its supervisor: what kills the one, and cannot be passed on, kills the other.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import inf
from typing import Protocol

from server.settings import Settings

_log = logging.getLogger("adatape.supervisor")

FIRST_PROBES_S = 0.2
"""How often it is asked until it serves: what crashes before that is not started again."""
PROBE_TIMEOUT_S = 1.0
MAX_DOUBT = 3
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
STEADY_S = 30.0
"""After so long without a crash the pause begins anew."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
RELOAD_SIGNAL = signal.SIGHUP
_OTHERS = (signal.SIGUSR1, signal.SIGUSR2)
"""They would end a process that does not know them; log rotation, for one, sends them out of habit."""
_SPARE_S = 10.0
"""How much longer than it may drain a server may take to end."""
_SIGNALLED = 128
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True, slots=True)
class RestartInfo:
    """What a supervised server knows: another takes its place if it ends, and it may have taken another's.

    Units: `down_since_s` is when, on the monotonic clock, the one before it was of no use any more.
    """

    down_since_s: float | None = None


class ProbeResult(Enum):
    """What a probe hears: how soon to ask again, and how much it adds to the doubt."""

    LIVE = (0.25, 0)
    NOT_LIVE = (0.1, 2)
    """It says so itself; it may have recovered by the next word."""
    SILENT = (0.25, 1)
    """It may only be slow."""

    def __init__(self, again_s: float, doubt: int) -> None:
        self.again_s = again_s
        self.doubt = doubt


class Worker(Protocol):
    """The server's process. `wait` returns its exit status, negative for a signal; None if it has not ended by then."""

    @property
    def pid(self) -> int: ...

    def wait(self, timeout_s: float) -> int | None: ...
    def send_signal(self, number: int) -> None: ...


class Supervisor:
    """Keeps one worker running. `start` starts it; `probe` asks it; `pause` waits; it may take `stop_s` to end."""

    def __init__(
        self,
        start: Callable[[RestartInfo], Worker],
        probe: Callable[[], ProbeResult],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
        stop_s: float = inf,
    ) -> None:
        self._start = start
        self._probe = probe
        self._clock = clock
        self._stopping = threading.Event()
        self._pause = pause or self._stopping.wait
        self._worker: Worker | None = None
        self._stop_s = stop_s
        self._stopped_s = inf

    def stop(self, number: int) -> None:
        """Pass a stop signal on, and start nothing more."""
        self._stopped_s = min(self._stopped_s, self._clock())
        self._stopping.set()
        self.pass_on(number)

    def pass_on(self, number: int) -> None:
        """Pass a signal on; a worker that is only being started reads all there is to read anyway."""
        if self._worker is not None:
            self._worker.send_signal(number)

    def run(self) -> int:
        """Keep a worker running until it is told to stop; return its exit status."""
        pause_s, has_served, down_since_s = FIRST_PAUSE_S, False, None
        while True:
            started_s = self._clock()
            self._worker = worker = self._start(RestartInfo(down_since_s))
            _log.info("worker_started pid=%d", worker.pid)
            if self._stopping.is_set():  # while it was being started
                worker.send_signal(signal.SIGTERM)
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
        has_served, doubt, word, since_s = False, 0, ProbeResult.LIVE, 0.0
        while True:
            status = worker.wait(word.again_s if has_served else FIRST_PROBES_S)
            asked_s = self._clock()
            if status is not None:
                return status, has_served, since_s if doubt else asked_s
            word = self._probe()
            has_served = has_served or word is ProbeResult.LIVE
            since_s = since_s if doubt else asked_s
            doubt = doubt + word.doubt if word.doubt and has_served and not self._stopping.is_set() else 0
            if asked_s - self._stopped_s > self._stop_s:
                _log.error("worker_not_stopped pid=%d seconds=%g", worker.pid, self._stop_s)
                worker.send_signal(signal.SIGKILL)
            if doubt >= MAX_DOUBT > doubt - word.doubt:
                _log.error("worker_not_live pid=%d word=%s", worker.pid, word.name.lower())
                worker.send_signal(signal.SIGKILL)


class Fork:
    """A worker that this process has forked to run a function."""

    def __init__(self, run: Callable[[], None]) -> None:
        # A stop signal that came before the child has let go of our handlers would be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, RELOAD_SIGNAL))
        try:
            self._process = multiprocessing.get_context("fork").Process(target=_become, args=(run, mask, os.getpid()))
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "It was started. This is a bug."
        return self._process.pid

    def wait(self, timeout_s: float) -> int | None:
        self._process.join(timeout_s)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)


def _become(run: Callable[[], None], mask: set[int], parent: int) -> None:
    """Run a function in a process that has just been forked, as if nobody had handled signals before."""
    os.setpgid(0, 0)  # else a terminal's Ctrl-C, which is passed on, would come twice and cut the drain short
    _die_with(parent)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(RELOAD_SIGNAL, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    run()


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends."""
    if sys.platform == "linux":  # elsewhere nothing tells a process of it
        ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before that
        os._exit(os.EX_UNAVAILABLE)


def ignore_others() -> None:
    """Let signals that mean nothing to a server, or nothing yet, not end it."""
    for number in (RELOAD_SIGNAL, *_OTHERS):
        signal.signal(number, signal.SIG_IGN)


def supervise(settings: Settings, serve: Callable[[RestartInfo], None]) -> int:
    """Run a server under a supervisor until a stop signal; return the exit status, as a shell has it."""
    stop_s = settings.drain_delay_s + settings.drain_s + _SPARE_S
    supervisor = Supervisor(lambda succession: Fork(partial(serve, succession)), Probe(settings), stop_s=stop_s)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _: supervisor.stop(received))
    signal.signal(RELOAD_SIGNAL, lambda received, _: supervisor.pass_on(received))
    status = supervisor.run()
    return status if status >= 0 else _SIGNALLED - status


class Probe:
    """Asks the worker whether it lives; one that picks its own port, or wants a certificate of us, is believed."""

    def __init__(self, settings: Settings) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # nosec B104
        place = f"[{host}]" if ":" in host else host
        scheme = "https" if settings.tls_cert is not None else "http"
        is_asked = settings.port != 0 and settings.tls_client_ca is None
        self._url = f"{scheme}://{place}:{settings.port}/healthz" if is_asked else None
        self._context = ssl._create_unverified_context() if scheme == "https" else None  # noqa: S323, SLF001  # nosec B323

    def __call__(self) -> ProbeResult:
        """Return what the worker says of itself."""
        if self._url is None:
            return ProbeResult.LIVE
        try:
            with urllib.request.urlopen(self._url, timeout=PROBE_TIMEOUT_S, context=self._context):  # noqa: S310  # nosec B310
                return ProbeResult.LIVE
        except urllib.error.HTTPError as error:
            # Whoever is refused for want of a connection is told when to come again, and the server is well.
            return ProbeResult.LIVE if "Retry-After" in error.headers else ProbeResult.NOT_LIVE
        except OSError:
            return ProbeResult.SILENT
