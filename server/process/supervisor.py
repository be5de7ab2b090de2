"""`--supervise`: a parent process that restarts the server when it crashes, or when its `/healthz` fails.

The server is forked from a parent that has imported everything already, so that a restarted one serves at once.

    start ──> serving ── crash, "not live" twice, or three probes without answer ──> restart, after a growing pause
                │
                └── stop signal ──> passed on; the server's exit status is ours

A server that ends before it has ever served is not restarted, because it would only end again: its status is returned.
The server never outlives its supervisor: if the supervisor is killed, the kernel kills the server.
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
"""How often the server is probed until it serves: one that crashes before that is not restarted."""
PROBE_TIMEOUT_S = 1.0
MAX_DOUBT = 3
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
STEADY_S = 30.0
"""After so long without a crash the pause is short again."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
RELOAD_SIGNAL = signal.SIGHUP
_IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""They end a process without a handler for them; log rotation, for example, often sends them."""
_SPARE_S = 10.0
"""How much longer than its drain a server may take to end."""
_SIGNALLED = 128
_END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True, slots=True)
class RestartInfo:
    """Given to a server that a supervisor restarts when it ends, and that may itself be such a restart.

    Units: `down_since_s` is since when, on the monotonic clock, the server before it no longer served.
    """

    down_since_s: float | None = None


class ProbeResult(Enum):
    """The result of a probe: how soon to probe again, and how much it adds to the doubt."""

    LIVE = (0.25, 0)
    NOT_LIVE = (0.1, 2)
    """The server says so itself; it may have recovered by the next probe."""
    SILENT = (0.25, 1)
    """No answer: the server may only be slow."""

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
    """Keeps one worker running. `start` starts it; `probe` checks it; `pause` waits; it may take `stop_s` to end."""

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
        """Pass a stop signal on, and restart nothing from now on."""
        self._stopped_s = min(self._stopped_s, self._clock())
        self._stopping.set()
        self.pass_on(number)

    def pass_on(self, number: int) -> None:
        """Pass a signal on; a worker that is still being started reads its files anyway."""
        if self._worker is not None:
            self._worker.send_signal(number)

    def run(self) -> int:
        """Keep a worker running until a stop signal; return its exit status."""
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
        """Return a worker's exit status, whether it ever served, and since when it did not; kill one that hangs."""
        has_served, doubt, result, since_s = False, 0, ProbeResult.LIVE, 0.0
        while True:
            status = worker.wait(result.again_s if has_served else FIRST_PROBES_S)
            asked_s = self._clock()
            if status is not None:
                return status, has_served, since_s if doubt else asked_s
            result = self._probe()
            has_served = has_served or result is ProbeResult.LIVE
            since_s = since_s if doubt else asked_s
            doubt = doubt + result.doubt if result.doubt and has_served and not self._stopping.is_set() else 0
            if asked_s - self._stopped_s > self._stop_s:
                _log.error("worker_not_stopped pid=%d seconds=%g", worker.pid, self._stop_s)
                worker.send_signal(signal.SIGKILL)
            if doubt >= MAX_DOUBT > doubt - result.doubt:
                _log.error("worker_not_live pid=%d word=%s", worker.pid, result.name.lower())
                worker.send_signal(signal.SIGKILL)


class Fork:
    """A worker that this process has forked to run a function."""

    def __init__(self, run: Callable[[], None]) -> None:
        # A stop signal that arrived before the child has replaced our handlers would be lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, RELOAD_SIGNAL))
        try:
            self._process = multiprocessing.get_context("fork").Process(
                target=_run_in_child, args=(run, mask, os.getpid())
            )
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


def _run_in_child(run: Callable[[], None], mask: set[int], parent: int) -> None:
    """Run a function in a process that has just been forked, with the default handlers of signals."""
    os.setpgid(0, 0)  # else Ctrl-C in a terminal, which is passed on, would arrive twice and end the drain
    _end_with(parent)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(RELOAD_SIGNAL, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    run()


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends."""
    if sys.platform == "linux":  # other systems have nothing like it
        ctypes.CDLL(None, use_errno=True).prctl(_END_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended before that
        os._exit(os.EX_UNAVAILABLE)


def ignore_signals() -> None:
    """Ignore the signals that would otherwise end a server without a handler for them."""
    for number in (RELOAD_SIGNAL, *_IGNORED_SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def supervise(settings: Settings, serve: Callable[[RestartInfo], None]) -> int:
    """Run a server under a supervisor until a stop signal; return the exit status, as a shell has it."""
    stop_s = settings.drain_delay_s + settings.drain_s + _SPARE_S
    supervisor = Supervisor(lambda restart_info: Fork(partial(serve, restart_info)), Probe(settings), stop_s=stop_s)
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _: supervisor.stop(received))
    signal.signal(RELOAD_SIGNAL, lambda received, _: supervisor.pass_on(received))
    status = supervisor.run()
    return status if status >= 0 else _SIGNALLED - status


class Probe:
    """Asks the worker's `/healthz`. A worker on a free port, or that demands client certificates, counts as live."""

    def __init__(self, settings: Settings) -> None:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # nosec B104
        place = f"[{host}]" if ":" in host else host
        scheme = "https" if settings.tls_cert is not None else "http"
        can_ask = settings.port != 0 and settings.tls_client_ca is None
        self._url = f"{scheme}://{place}:{settings.port}/healthz" if can_ask else None
        self._context = ssl._create_unverified_context() if scheme == "https" else None  # noqa: S323, SLF001  # nosec B323

    def __call__(self) -> ProbeResult:
        """Return whether the worker says that it is live."""
        if self._url is None:
            return ProbeResult.LIVE
        try:
            with urllib.request.urlopen(self._url, timeout=PROBE_TIMEOUT_S, context=self._context):  # noqa: S310  # nosec B310
                return ProbeResult.LIVE
        except urllib.error.HTTPError as error:
            # A refusal with Retry-After means too many connections: the server is live.
            return ProbeResult.LIVE if "Retry-After" in error.headers else ProbeResult.NOT_LIVE
        except OSError:
            return ProbeResult.SILENT
