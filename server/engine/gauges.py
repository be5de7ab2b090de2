"""What is shown of each loaded family while it is loaded: read when scraped, at no cost in between."""

from collections.abc import Callable
from functools import partial

from server.engine.dispatch import Dispatcher
from server.engine.families import Family
from server.engine.guard import Guard
from server.engine.pilot import Pilot
from server.metrics import Metrics
from server.metrics.metric_types import Gauge


class FamilyGauges:
    """The gauges of one load of a version. The next version may take them over before this one is gone."""

    def __init__(self, metrics: Metrics, family: Family, dispatcher: Dispatcher) -> None:
        self._watched: list[tuple[Gauge, Callable[[], float], tuple[str, ...]]] = []
        manifest, costs, size = family.manifest, family.costs, dispatcher.num_instances
        self._model = model = manifest.family
        self._watch(metrics.models, lambda: 1, model, manifest.version, manifest.precision, family.model.device)
        self._watch(metrics.batch_limit, lambda: costs.max_batch_size, model)
        self._watch(metrics.capacity_flops, lambda: size * costs.mean_flops()[-1] / costs.sample_s[-1], model)
        for stage, bucket in costs.places:
            read = partial(dispatcher.num_waiting, family, stage, bucket)
            self._watch(metrics.waiting, read, model, str(stage), str(bucket))
        if family.pilot is not None:
            self._watch_pilot(metrics, family, family.pilot)
        if family.guard is not None:
            self._watch_guard(metrics, family, family.guard)

    def stop(self) -> None:
        """Show nothing of this load any more."""
        for gauge, read, labels in self._watched:
            gauge.forget(read, *labels)

    def _watch(self, gauge: Gauge, read: Callable[[], float], *labels: str) -> None:
        gauge.watch(read, *labels)
        self._watched.append((gauge, read, labels))

    def _watch_pilot(self, metrics: Metrics, family: Family, pilot: Pilot) -> None:
        self._watch(metrics.controller_cap, lambda: pilot.cap, self._model)
        self._watch(metrics.controller_floor, lambda: pilot.least_cap, self._model)
        self._watch(metrics.controller_limit, lambda: family.costs.capacity, self._model)
        self._watch(metrics.slo_attainment, family.meter.version_counts.attainment, self._model)

    def _watch_guard(self, metrics: Metrics, family: Family, guard: Guard) -> None:
        for cap in family.costs.buckets[:-1]:
            self._watch(metrics.agreement, partial(guard.ratio, cap), self._model, str(cap))
        caps = map(str, range(family.costs.capacity))
        metrics.shadows.declare((self._model, cap, result) for cap in caps for result in ("same", "different"))
