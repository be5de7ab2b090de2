"""The list of scenarios: each has a name, a statement (its docstring's first line), and a function that runs it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from loadtest.chaos.servers import ScenarioServers

Play = Callable[[ScenarioServers], Coroutine[Any, Any, str]]
"""Runs a scenario and returns its figures. Raises: Broken if the server breaks a promise."""


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    statement: str
    play: Play


SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Play) -> Play:
    """Register a function as the scenario of its name."""
    name = play.__name__
    SCENARIOS[name] = Scenario(name, (play.__doc__ or "").strip().splitlines()[0], play)
    return play


def all_scenarios() -> list[Scenario]:
    """Return every scenario in the order of the modules."""
    package = import_module("loadtest.chaos.scenarios")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return list(SCENARIOS.values())
