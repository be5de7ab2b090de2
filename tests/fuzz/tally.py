"""What came of the cases of one target, and what the server's process looked like meanwhile."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MAX_FAULTS_KEPT = 20
SAMPLES = 20
"""How often a target looks at the process."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds. Units: resident bytes without shared pages of files; open descriptors; threads."""

    resident_bytes: int
    num_descriptors: int
    num_threads: int


def footprint(pid: int) -> Footprint:
    """Look at a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    numbers = {name: int(value) for name, value in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE)}
    num_descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Footprint(numbers["RssAnon"] * 1024, num_descriptors, numbers["Threads"])


@dataclass(slots=True)
class Tally:
    """Counts the outcomes of one target's cases and keeps its faults; each fault names its case."""

    name: str
    num_cases: int
    look: Callable[[], Footprint] | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    num_faults: int = 0
    footprints: list[Footprint] = field(default_factory=list)

    @property
    def num_done(self) -> int:
        return self.outcomes.total()

    def add(self, outcome: str, fault: str | None = None) -> None:
        """Count one case."""
        if self.look is not None and self.num_done % max(1, self.num_cases // SAMPLES) == 0:
            self.footprints.append(self.look())
        self.outcomes[outcome] += 1
        if fault is not None:
            self.num_faults += 1
            if len(self.faults) < MAX_FAULTS_KEPT:
                self.faults.append(fault)

    def line(self) -> str:
        """Return what to print."""
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.most_common(8))
        return f"{self.name}: {self.num_done} cases, {self.num_faults} faults ({outcomes})"
