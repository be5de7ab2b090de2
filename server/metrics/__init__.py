"""What the server shows of itself: Prometheus metrics, the protocol's statistics, and OpenTelemetry traces."""

from server.metrics.definitions import NO_MODEL
from server.metrics.meters import ModelMeter, TenantMeter
from server.metrics.metrics import Metrics
from server.metrics.statistics import Duration, Statistics

__all__ = ["NO_MODEL", "Duration", "Metrics", "ModelMeter", "Statistics", "TenantMeter"]
