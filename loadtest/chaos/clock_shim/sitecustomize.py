"""Shifts Python's wall clock by the offset in a file; imported first where its folder is on Python's path."""

import os
import time
from pathlib import Path

_OFFSET = Path(os.environ["FAKETIME_TIMESTAMP_FILE"])
_time_ns = time.time_ns


def _stepped_ns() -> int:
    return _time_ns() + int(_OFFSET.read_text(encoding="ascii")) * 1_000_000_000


def _stepped() -> float:
    return _stepped_ns() / 1e9


time.time, time.time_ns = _stepped, _stepped_ns
