"""Who runs next, with whom: pure policy over tickets and predicted costs; the caller brings the clock."""

from server.scheduler.lanes import Lane, Stage, Ticket, due_s
from server.scheduler.latency import LatencyModel, flops_of
from server.scheduler.scheduler import Batch, Scheduler

__all__ = ["Batch", "Lane", "LatencyModel", "Scheduler", "Stage", "Ticket", "due_s", "flops_of"]
