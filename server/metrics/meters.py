"""Counters, gauges and histograms that cost well under a microsecond to update.

`prometheus_client` renders them at the scrape; its own types take a lock and a linear search per observation,
which at nine observations a sample would be felt. Counts stay integers, so that sums of receipts are exact.
One thread (the event loop's) updates and renders.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Cell:
    """The count of one combination of label values."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Counter:
    """Integers that only grow, by label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._cells: dict[Labels, Cell] = {}

    @property
    def values(self) -> dict[Labels, int]:
        """Return the counts by label values."""
        return {labels: cell.value for labels, cell in self._cells.items()}

    def cell(self, *labels: str) -> Cell:
        """Return the cell of these label values, creating it at 0; keep it to count without a look-up."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Cell()
        return cell

    def add(self, amount: int, *labels: str) -> None:
        self.cell(*labels).value += amount

    def declare(self, combinations: Iterable[Labels]) -> None:
        """Show these label values as 0 until they are counted, so that rates exist from the start."""
        for labels in combinations:
            self.cell(*labels)

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.about, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Gauge:
    """A current value, read by a callback when scraped."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._reads: dict[Labels, Callable[[], float]] = {}

    def watch(self, read: Callable[[], float], *labels: str) -> None:
        self._reads[labels] = read

    def forget(self, *labels: str) -> None:
        self._reads.pop(labels, None)

    def collect(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.about, labels=self.labels)
        for labels, read in self._reads.items():
            family.add_metric(labels, read())
        return family


class Series:
    """The observations of one combination of label values."""

    __slots__ = ("_counts", "_edges", "total")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count one value; integers keep `total` an exact integer."""
        self._counts[bisect_left(self._edges, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper edge, as Prometheus wants them."""
        edges = [*map(floatToGoString, self._edges), "+Inf"]
        return list(zip(edges, accumulate(self._counts), strict=True))


class Histogram:
    """A distribution over fixed edges, by label values."""

    def __init__(self, name: str, about: str, edges: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._edges = tuple(edges)
        self._series: dict[Labels, Series] = {}

    def series(self, *labels: str) -> Series:
        """Return the series of these label values, creating it empty; keep it to observe without a look-up."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self._edges)
        return series

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.about, labels=self.labels)
        for labels, series in self._series.items():
            family.add_metric(labels, series.buckets(), series.total)
        return family


def geometric(first: float, last: float, per_decade: int) -> tuple[float, ...]:
    """Return edges from `first` to at least `last`, evenly spaced in the logarithm, to 3 significant digits."""
    edges = [first]
    while edges[-1] < last * 0.999:
        edges.append(float(f"{first * 10 ** (len(edges) / per_decade):.3g}"))
    return tuple(edges)
