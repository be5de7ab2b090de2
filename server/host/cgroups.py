"""How much memory and how many processors this process may use, by its control groups (versions 1 and 2).

A limit may be set at any level above the process, and the smallest one counts. In a container the file system often
begins at the container's own group, whatever path `/proc` names: levels that do not exist are skipped.
`root` is the folder that holds `proc` and `sys`.
"""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

ROOT = Path("/")
_GROUPS = "sys/fs/cgroup"


def memory_bytes(root: Path = ROOT) -> int:
    """Return the memory that this process may use: the smallest limit of its groups, or all of the machine's."""
    limits = [
        limit
        for folder, version in _folders(root, "memory")
        for limit in _numbers(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))[:1]
    ]
    return min([_physical_bytes(root), *(limit for limit in limits if limit > 0)])


def num_cpus(root: Path = ROOT) -> int:
    """Return the processors that this process may keep busy: by affinity and by quota, rounded up, at least 1."""
    quotas = [quota for folder, version in _folders(root, "cpu") for quota in _quotas(folder, version)]
    return max(1, ceil(min([len(os.sched_getaffinity(0)), *quotas])))


def _quotas(folder: Path, version: int) -> list[float]:
    """Return the processors that one group allows, if it has a limit."""
    if version == 2:
        numbers = _numbers(folder / "cpu.max")
    else:
        numbers = [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")]
    return [numbers[0] / numbers[1]] if len(numbers) == 2 and min(numbers) > 0 else []


def _folders(root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Give the folder of each group that this process is in, the innermost first, and the version of its files."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names == "":
            tops, version = [root / _GROUPS, root / _GROUPS / "unified"], 2
        elif controller in names.split(","):
            tops, version = [root / _GROUPS / names, root / _GROUPS / controller], 1
        else:
            continue
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        for top in tops:
            for depth in range(len(parts), -1, -1):
                yield top.joinpath(*parts[:depth]), version


def _numbers(path: Path) -> list[int]:
    """Return the whole numbers that a file begins with; none where it says `max`, or does not exist."""
    numbers = []
    for word in _text(path).split():
        if not word.isdecimal():
            break
        numbers.append(int(word))
    return numbers


def _physical_bytes(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
