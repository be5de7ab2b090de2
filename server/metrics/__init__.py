"""What `/metrics` shows: cheap meters on the request path, Prometheus text at the scrape."""

from server.metrics.metrics import NO_MODEL, Metrics
from server.metrics.model import ModelMeter
from server.metrics.statistics import Duration, Statistics
from server.metrics.tenant import TenantMeter

__all__ = ["NO_MODEL", "Duration", "Metrics", "ModelMeter", "Statistics", "TenantMeter"]
