"""The table of hostile messages; each module of `messages` adds the rows of a surface."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from loadtest.hostile.http import RawRequest
from loadtest.hostile.http2 import Exchange


@dataclass(frozen=True, slots=True)
class MessageContext:
    """The family that a message asks for, and the sender's API key: empty for a sender without one."""

    family: str
    key: str = ""


Make = Callable[[MessageContext], RawRequest | Exchange]


@dataclass(frozen=True, slots=True)
class Message:
    """One row: `make` returns what is sent."""

    surface: str
    name: str
    make: Make


MESSAGES: list[Message] = []


def add(surface: str, **rows: Make) -> None:
    """Add rows, whose names have underscores for spaces."""
    MESSAGES.extend(Message(surface, name.replace("_", " "), make) for name, make in rows.items())


def all_messages() -> list[Message]:
    """Return every row, in the order of the modules."""
    package = import_module("loadtest.hostile.messages")
    for module in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return list(MESSAGES)
