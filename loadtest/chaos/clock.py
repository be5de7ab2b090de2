"""A wall clock that can be stepped for one running server alone.

libfaketime does it for real: every reading of the wall clock by the process, whatever its language, goes through it
(Debian: `apt-get install faketime`). Where it is not installed Python's own clock functions are replaced.
"""

from collections.abc import Mapping
from pathlib import Path

SEEN_S = 1
"""How soon a step is seen."""
_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
_SHIM = Path(__file__).parent / "clock_shim"


class WallClock:
    """One server's; start the server with `variables` in its environment. `kind` says what steps it."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.step(0)
        found = [str(path) for pattern in _LIBRARIES for path in Path("/").glob(pattern[1:])]
        self.kind = "libfaketime" if found else "Python's clock replaced"
        faked = {"LD_PRELOAD": found[0]} if found else {"PYTHONPATH": str(_SHIM)}
        self.variables: Mapping[str, str] = {
            **faked,
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_CACHE_DURATION": str(SEEN_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else threads wait for one another for 50 ms and more
        }

    def step(self, offset_s: int) -> None:
        """Let the clock be off by so much from now on."""
        partial = self._offset.with_suffix(".partial")
        partial.write_text(f"{offset_s:+d}", encoding="ascii")
        partial.replace(self._offset)
