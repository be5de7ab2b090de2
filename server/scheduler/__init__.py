"""Who runs next, with whom and with how much tape: pure policy over tickets and predicted costs.

The caller brings the clock: the engine a real one, a simulator its own.
"""

from server.scheduler.costs import Costs, Place
from server.scheduler.lanes import Lane, Stage, Ticket, due_s
from server.scheduler.latency import LatencyModel, flops_of
from server.scheduler.line import Batch, Line
from server.scheduler.mix import TapeMix
from server.scheduler.scheduler import Scheduler
from server.scheduler.shares import Fairness, Share, part_ahead

__all__ = [
    "Batch",
    "Costs",
    "Fairness",
    "Lane",
    "LatencyModel",
    "Line",
    "Place",
    "Scheduler",
    "Share",
    "Stage",
    "TapeMix",
    "Ticket",
    "due_s",
    "flops_of",
    "part_ahead",
]
