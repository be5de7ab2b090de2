"""The measurements of a peer and of our server beside it, their join over several runs, and the aims."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ratios import Paired
from benchmarks.report import Aim, Row

PYTHON_SERVERS = ("litserve", "bentoml", "mlserver", "rayserve")
MIN_OVER_PYTHON, MIN_OVER_TRITON = 1.5, 1.25
OURS = "adatape-serve"


@dataclass(slots=True)
class Figures:
    """One server's measurements, a value a round. Units: `*_ms` milliseconds, `ready_s` seconds."""

    rate: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)
    ready_s: list[float] = field(default_factory=list)

    def row(self, name: str) -> Row:
        return {
            "server": name,
            "n": len(self.rate),
            "images/s": median(self.rate),
            "p50_ms, concurrency 1": median(self.p50_ms),
            "p99_ms at 90 %": median(self.p99_ms),
            "private MiB": median(self.mib),
            "start s": median(self.ready_s),
        }


@dataclass(slots=True)
class SideBySide:
    """A peer and ours, measured in turn; `error` says why the peer could not be measured."""

    peer: str
    theirs: Figures = field(default_factory=Figures)
    ours: Figures = field(default_factory=Figures)
    error: str = ""

    def rows(self) -> Iterator[Row]:
        if not self.error:
            yield self.theirs.row(self.peer)
            yield self.ours.row(f"{OURS} beside it")

    def aims(self) -> Iterator[Aim]:
        """Yield a peer's aims; one that did not run misses the aim of being measured."""
        if self.error:
            yield Aim(f"{self.peer} measured", 0, 1)
            return
        is_python = self.peer in PYTHON_SERVERS
        ratio = Paired(self.theirs.rate, self.ours.rate).ratio
        limit = MIN_OVER_PYTHON if is_python else MIN_OVER_TRITON
        yield Aim(f"images/s at equal accuracy ÷ {self.peer}", ratio, limit)
        if is_python:
            p50 = median(self.ours.p50_ms) / median(self.theirs.p50_ms)
            yield Aim(f"p50 at concurrency 1 ÷ {self.peer}", p50, 1.0, is_at_least=False)


def to_details(found: Iterable[SideBySide]) -> list[Row]:
    """Return all values, from which `read_details` makes the same again."""
    return [asdict(each) for each in found]


def read_details(files: Sequence[Path]) -> tuple[list[SideBySide], list[str]]:
    """Return what earlier runs measured, and a line on each run.

    Raises: SystemExit if a file is no result of this command.
    """
    found, runs = [], []
    for file in files:
        try:
            document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            found += [_side_by_side(each) for each in document["details"]["peers"]]
            runs.append(f"{document['date']}, {document['git']}: {document['command']}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"--join; got {file.name}: {error!r}; expected a result of benchmarks.peers") from error
    return found, runs


def _side_by_side(document: dict[str, Any]) -> SideBySide:
    theirs, ours = (Figures(**document[side]) for side in ("theirs", "ours"))
    return SideBySide(document["peer"], theirs, ours, document["error"])
