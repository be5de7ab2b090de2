"""The registry of all metrics, and their text for a scrape."""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from server import __version__
from server.errors import all_errors
from server.metrics.definitions import NO_MODEL, MetricDefinitions
from server.metrics.gpu import GpuCollector
from server.metrics.meters import ModelMeter
from server.metrics.metric_types import Counter, Gauge, Histogram
from server.metrics.version_counts import VersionCountsRegistry
from server.models.manifest import Manifest

PROTOCOLS = ("classify", "oip", "oip_grpc")
REASONS = tuple(sorted({error.reason for error in all_errors()}))


class Metrics(MetricDefinitions, Collector):
    """All that `/metrics` shows, on a registry of its own.

    `Engine.infer` counts the requests that reach it; a surface counts those that it refuses itself with `refused`.
    With a service level, `slo_s`, every histogram of latencies has an edge there. All methods but `Snapshot.render`
    belong to the event loop's thread.
    """

    def __init__(self, slo_s: float | None = None) -> None:
        super().__init__(slo_s)
        self._version_counts = VersionCountsRegistry(self)
        self.build = Gauge("adatape_build_info", "This server", ("version", "python"))
        self.build.watch(lambda: 1, __version__, platform.python_version())
        self._meters = [meter for meter in vars(self).values() if isinstance(meter, Counter | Gauge | Histogram)]
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._others: list[Collector] = [ProcessCollector(registry=self.registry), GpuCollector()]
        self.errors.declare((reason,) for reason in REASONS)
        self._declare_outcomes(NO_MODEL)

    @property
    def all(self) -> list[Counter | Gauge | Histogram]:
        """Return every metric of ours, in the order of declaration."""
        return self._meters

    def collect(self) -> Iterator[Metric]:
        for counts in self._version_counts:
            counts.flush()
        return (meter.collect() for meter in self._meters)

    def snapshot(self) -> "Snapshot":
        """Return the current values; any thread may render them."""
        return Snapshot(list(self.collect()), self._others)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition in the format that an Accept header asks for, and its content type."""
        return self.snapshot().render(accept)

    def meter(self, manifest: Manifest) -> ModelMeter:
        """Return a meter for one load of a version, with all its label combinations at 0; `retire` it in the end."""
        self._declare_outcomes(manifest.family)
        return ModelMeter(self, manifest, self._version_counts.open(manifest))

    def retire(self, manifest: Manifest) -> None:
        """Note that one load of a version is over. Its series are dropped after a few more versions of the family."""
        self._version_counts.close(manifest)

    def _declare_outcomes(self, model: str) -> None:
        self.requests.declare((model, protocol, outcome) for protocol in PROTOCOLS for outcome in ("ok", *REASONS))


class Snapshot(Collector):
    """The values of all metrics at one moment. Process and GPU figures are read when it is rendered."""

    def __init__(self, families: list[Metric], others: list[Collector]) -> None:
        self._families = families
        self._others = others

    def collect(self) -> Iterator[Metric]:
        yield from self._families
        for other in self._others:
            yield from other.collect()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type
