"""Detects, on a thread of its own, that the event loop is blocked: whatever runs there keeps every caller waiting.

    beats arrive ── none for 1 s ──> blocked: logged with what the loop is running ── a beat ──> recovered
                                       └── none for 2.5 s, under a supervisor ──> the process ends

The loop sends the beats, and the thread counts its own ticks between them. While the whole process is suspended, or
gets no processor, the thread does not tick either, so the loop is not reported. Code that never releases the
interpreter's lock stops the thread, too; probes from outside detect that.
"""

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path
from types import FrameType

from server.metrics import Metrics
from server.process.background_tasks import FailureLog, run_repeatedly

_log = logging.getLogger("adatape.pulse")

LOOP = "loop"
"""The fault, in `adatape_recovery_seconds`."""
TICK_S = 0.25
BLOCKED_TICKS = 4
GIVEN_UP_TICKS = 10
_NUM_FRAMES = 4


class EventLoopWatchdog:
    """Watches the event loop that starts it. With `is_expendable` it ends the process when the loop stays blocked.

    Lifetime: `start`, `stop`, on one event loop.
    """

    def __init__(self, metrics: Metrics, *, is_expendable: bool) -> None:
        self._recovery = metrics.recovery.series(LOOP)
        self._failures = FailureLog("event_loop_watchdog", metrics)
        self._is_expendable = is_expendable
        self._num_missed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="event-loop-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to send beats, and to watch them."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        self._timer.cancel()

    def _beat(self) -> None:
        num_missed, self._num_missed = self._num_missed, 0
        if num_missed >= BLOCKED_TICKS:
            self._recovery.observe(num_missed * TICK_S)
            _log.info("engine_recovered fault=%s seconds=%.3f", LOOP, num_missed * TICK_S)
        self._timer = self._loop.call_later(TICK_S, self._beat)

    def _watch(self) -> None:
        run_repeatedly(self._stopping, TICK_S, self._tick, self._failures)

    def _tick(self) -> None:
        self._num_missed += 1
        if self._num_missed == BLOCKED_TICKS:
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread
            # On another thread: writing the log may block, too.
            threading.Thread(
                target=_log_blocked, args=(_innermost_calls(frame),), name="event-loop-log", daemon=True
            ).start()
        if self._num_missed == GIVEN_UP_TICKS and self._is_expendable:
            os._exit(os.EX_SOFTWARE)


def _log_blocked(calls: str) -> None:
    _log.error("event_loop_blocked seconds=%g at=%r", BLOCKED_TICKS * TICK_S, calls)


def _innermost_calls(frame: FrameType | None) -> str:
    """Return the innermost calls of a thread, the last one first."""
    places: list[str] = []
    while frame is not None and len(places) < _NUM_FRAMES:
        places.append(f"{frame.f_code.co_name} {Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(places)
