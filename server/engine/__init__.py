"""The engine: admit -> read -> bucket -> run -> settle. It owns the futures and the instances."""

from server.engine.build import build_engine
from server.engine.engine import Engine
from server.engine.pilot import Pilot

__all__ = ["Engine", "Pilot", "build_engine"]
