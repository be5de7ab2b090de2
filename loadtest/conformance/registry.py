"""The list of checks: each has a name, a level, a statement (its docstring's first line) and a source."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtest.conformance.target import Target

Run = Callable[["Target"], None]


class Level(StrEnum):
    MUST = "MUST"
    """Asked by the Open Inference Protocol, or by what it stands on: HTTP, JSON, gRPC."""
    TRITON = "TRITON-COMPAT"
    """Asked by Triton's extensions or by its clients, which call other servers too."""
    ROBUST = "ROBUST"
    """Asked by no text, and needed by every server that strangers can reach."""


MUST, TRITON, ROBUST = Level


@dataclass(frozen=True, slots=True)
class Check:
    """One named check. `is_hazard`: some servers do not survive it, so it runs after all others."""

    name: str
    level: Level
    statement: str
    source: str
    run: Run
    is_hazard: bool = False

    @property
    def needs_grpc(self) -> bool:
        return self.name.startswith("grpc.")


CHECKS: dict[str, Check] = {}


def check(name: str, level: Level, source: str, *, hazard: bool = False) -> Callable[[Run], Run]:
    """Register a function as a check; it returns if the server is as its docstring says, and raises Failure if not."""

    def register(run: Run) -> Run:
        add(Check(name, level, (run.__doc__ or "").strip().splitlines()[0], source, run, hazard))
        return run

    return register


def add(made: Check) -> None:
    """Register a check.

    Raises: ValueError if its name is taken.
    """
    if made.name in CHECKS:
        raise ValueError(f"check name; got {made.name} twice; expected unique names")
    CHECKS[made.name] = made


def all_checks() -> list[Check]:
    """Return every check in the order of the modules, hazards last."""
    package = import_module("loadtest.conformance.checks")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return sorted(CHECKS.values(), key=lambda each: each.is_hazard)
