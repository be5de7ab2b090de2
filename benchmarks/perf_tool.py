"""NVIDIA's perf_analyzer: its installation, one run of it, and what it reports.

The binary is in the wheel of tritonclient 2.51; the package named perf-analyzer is an empty placeholder. It is linked
with CUDA's runtime, which a wheel brings, and with libb64, which Debian and Ubuntu have as libb64-0d.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import environment

REQUIREMENTS = Path(__file__).parent / "perf_analyzer.txt"
LIBB64 = "libb64-0d"
RUN_S = 600.0
WINDOWS = 3
ANY_SPREAD = 1_000_000
"""Windows need not agree: the tool would report nothing on a machine that runs other work too."""
_US = 1e-6
_NS = 1e-9


@dataclass(frozen=True, slots=True)
class Tool:
    """An installed perf_analyzer."""

    binary: Path
    libraries: tuple[Path, ...]

    def run(self, arguments: Sequence[str], work: Path, window_s: float) -> "Measured":
        """Run it once, over three windows.

        Raises: SystemExit with its output if it reports nothing.
        """
        table, profile = work / "table.csv", work / "profile.json"
        for path in (table, profile):
            path.unlink(missing_ok=True)
        fixed = ["-p", f"{window_s * 1000:.0f}", "-r", str(WINDOWS), "-s", str(ANY_SPREAD), "--percentile", "99"]
        command = [str(self.binary), *arguments, *fixed, "-f", str(table), "--profile-export-file", str(profile)]
        done = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=RUN_S, check=False
        )
        if done.returncode != 0 or not table.exists():
            raise SystemExit(f"perf_analyzer; got this:\n{done.stdout[-2000:]}{done.stderr[-2000:]}\nexpected a table")
        return parse(table.read_text(), profile.read_text())

    def version(self) -> str:
        done = subprocess.run(
            [str(self.binary), "--version"], env=self._environment(), capture_output=True, text=True, check=True
        )
        return (done.stdout + done.stderr).strip().splitlines()[-1]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, self.libraries))}


@dataclass(frozen=True, slots=True)
class Measured:
    """What the tool found.

    Units: requests a second; seconds; `start_s` and `end_s` of its windows since the epoch. `server_s` is the mean time
    of a request in the server, by the server's own statistics.
    """

    rate: float
    p50_s: float
    p99_s: float
    server_s: float
    start_s: float
    end_s: float


def parse(table: str, profile: str) -> Measured:
    """Read the tool's table, and from its profile when its windows were."""
    rows = list(csv.DictReader(table.splitlines()))
    if len(rows) != 1:
        raise SystemExit(f"perf_analyzer; got {len(rows)} rows; expected one")
    (row,) = rows
    parts = ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")
    boundaries = json.loads(profile)["experiments"][0]["window_boundaries"]
    return Measured(
        rate=float(row["Inferences/Second"]),
        p50_s=float(row["p50 latency"]) * _US,
        p99_s=float(row["p99 latency"]) * _US,
        server_s=sum(float(row[part]) for part in parts) * _US,
        start_s=boundaries[0] * _NS,
        end_s=boundaries[-1] * _NS,
    )


def install() -> Tool:
    """Return the tool, installed in an environment of its own where it is not there yet.

    Raises: SystemExit if libb64 is neither there nor to be had.
    """
    folder = environment("perf-analyzer", REQUIREMENTS)
    packages = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    libraries = [packages / "nvidia" / "cuda_runtime" / "lib"]
    if find_library("b64") is None:
        libraries.append(_unpacked_libb64(folder))
    return Tool(folder / "bin" / "perf_analyzer", tuple(libraries))


def _unpacked_libb64(folder: Path) -> Path:
    """Return a folder with libb64, unpacked from Debian's package without installing it."""
    unpacked = folder / "debian"
    if not list(unpacked.rglob("libb64.so.0d")):
        if shutil.which("apt-get") is None:
            raise SystemExit(f"libb64; got no such library; expected Debian's {LIBB64}")
        unpacked.mkdir(exist_ok=True)
        subprocess.run(["apt-get", "download", "--quiet", LIBB64], cwd=unpacked, check=True, capture_output=True)
        (package,) = unpacked.glob(f"{LIBB64}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
    return next(unpacked.rglob("libb64.so.0d")).parent
