"""The outcomes of one target's cases, and the footprints of the server's process meanwhile."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.process import Footprint

MAX_FAULTS_KEPT = 20
SAMPLES = 20
"""How often a target footprints at the process."""


@dataclass(slots=True)
class TargetResult:
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
