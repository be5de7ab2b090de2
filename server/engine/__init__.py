"""The engine: admit -> read -> bucket -> run -> settle. It owns the futures and the instances."""

from server.engine.build import build_engine
from server.engine.engine import Engine

__all__ = ["Engine", "build_engine"]
