"""Notices, on a thread of its own, that the event loop is blocked: whatever runs there keeps every caller waiting.

    beats come ── none for 1 s ──> blocked: told, with what the loop is doing ── a beat ──> recovered
                                     └── none for 2.5 s, and someone starts a new process ──> this one ends

Time is counted in the thread's own ticks: while the whole process stands still or starves, the thread does as well, and
nobody is blamed. Code that never lets go of the interpreter's lock stops it, too; that is left to probes from outside.
"""

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path
from types import FrameType

from server.metrics import Metrics
from server.process.background_tasks import Failures, keep_on

_log = logging.getLogger("adatape.pulse")

LOOP = "loop"
"""The fault, in `adatape_recovery_seconds`."""
TICK_S = 0.25
BLOCKED_TICKS = 4
GIVEN_UP_TICKS = 10
_NUM_FRAMES = 4


class EventLoopWatchdog:
    """Beats on the event loop that starts it. With `is_expendable` the process ends where the loop is blocked for good.

    Lifetime: `start`, `stop`, on one event loop.
    """

    def __init__(self, metrics: Metrics, *, is_expendable: bool) -> None:
        self._recovery = metrics.recovery.series(LOOP)
        self._failures = Failures("pulse", metrics)
        self._is_expendable = is_expendable
        self._num_missed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)

    def start(self) -> None:
        """Beat, and watch from now on."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        self._timer.cancel()

    def _beat(self) -> None:
        num_missed, self._num_missed = self._num_missed, 0
        if num_missed >= BLOCKED_TICKS:
            self._recovery.observe(num_missed * TICK_S)
            _log.info("engine_recovered fault=%s seconds=%.3f", LOOP, num_missed * TICK_S)
        self._timer = self._loop.call_later(TICK_S, self._beat)

    def _watch(self) -> None:
        keep_on(self._stopping, TICK_S, self._tick, self._failures)

    def _tick(self) -> None:
        self._num_missed += 1
        if self._num_missed == BLOCKED_TICKS:
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread
            # Not on this thread: the log may be what blocks.
            threading.Thread(target=_tell, args=(_where(frame),), name="pulse-tell", daemon=True).start()
        if self._num_missed == GIVEN_UP_TICKS and self._is_expendable:
            os._exit(os.EX_SOFTWARE)


def _tell(place: str) -> None:
    _log.error("event_loop_blocked seconds=%g at=%r", BLOCKED_TICKS * TICK_S, place)


def _where(frame: FrameType | None) -> str:
    """Return the innermost calls of a thread, the last one first."""
    places: list[str] = []
    while frame is not None and len(places) < _NUM_FRAMES:
        places.append(f"{frame.f_code.co_name} {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places)
