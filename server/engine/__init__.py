"""The engine: admit -> read -> bucket -> run -> settle. It owns the futures and the instances."""

from server.engine.engine import Engine, build_engine

__all__ = ["Engine", "build_engine"]
