"""Counters, gauges and histograms that take well under a microsecond to update.

`prometheus_client` renders them at a scrape. Its own types take a lock and a linear search for each observation, which
is too slow for nine observations a sample. Counts stay integers, so that sums of receipts are exact.
One thread (the event loop's) updates and collects.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, repeat

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
ExemplarLabel = tuple[str, str]
"""A label of an exemplar and its value: `("trace_id", "4bf9...")`."""


class Cell:
    """The count of one combination of label values."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0
        """An exact integer for as long as only integers are added."""


class Counter:
    """Numbers that only grow, by label values."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._cells: dict[Labels, Cell] = {}

    @property
    def values(self) -> dict[Labels, float]:
        """Return the counts by label values."""
        return {labels: cell.value for labels, cell in self._cells.items()}

    def cell(self, *labels: str) -> Cell:
        """Return the cell of these label values, creating it at 0; keep it to count without a look-up."""
        cell = self._cells.get(labels)
        if cell is None:
            cell = self._cells[labels] = Cell()
        return cell

    def cells(self, *pattern: str | None) -> dict[Labels, Cell]:
        """Return the cells whose labels have these values; None stands for any."""
        return {
            labels: cell
            for labels, cell in self._cells.items()
            if all(wanted in {None, label} for wanted, label in zip(pattern, labels, strict=True))
        }

    def add(self, amount: float, *labels: str) -> None:
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

    def forget(self, read: Callable[[], float], *labels: str) -> None:
        """Stop showing these label values, unless another callback has replaced this one."""
        if self._reads.get(labels) is read:
            del self._reads[labels]

    def collect(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.about, labels=self.labels)
        for labels, read in self._reads.items():
            family.add_metric(labels, read())
        return family


class Series:
    """The observations of one combination of label values."""

    __slots__ = ("_counts", "_edges", "_exemplars", "total")

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = edges
        self._counts = [0] * (len(edges) + 1)
        self._exemplars: dict[int, tuple[float, ExemplarLabel]] = {}
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count one value; integers keep `total` an exact integer."""
        self._counts[bisect_left(self._edges, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many values, each for a fraction of what `observe` takes."""
        counts = self._counts
        for place in map(bisect_left, repeat(self._edges), values):
            counts[place] += 1
        self.total += sum(values)

    def add(self, value: float, count: int) -> None:
        """Count one value `count` times."""
        self._counts[bisect_left(self._edges, value)] += count
        self.total += value * count

    def set_exemplars(self, values: Sequence[float], labels: Sequence[ExemplarLabel]) -> None:
        """Keep exemplar labels for values that are counted already; a scrape shows the latest of each bucket."""
        places = map(bisect_left, repeat(self._edges), values)
        self._exemplars.update(zip(places, zip(values, labels, strict=True), strict=False))

    @property
    def count(self) -> int:
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper edge, as Prometheus wants them."""
        edges = [*map(floatToGoString, self._edges), "+Inf"]
        return list(zip(edges, accumulate(self._counts), strict=True))

    def collect(self) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
        """Return the buckets, with their exemplars where they have any."""
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [*self.buckets()]
        for place, (value, label) in self._exemplars.items():
            edge, count = buckets[place][:2]
            buckets[place] = (edge, count, Exemplar(dict([label]), value))
        return buckets


class Histogram:
    """A distribution, by label values, over fixed edges unless a series brings its own.

    Where an edge is below 0 values may be too, and no sum is shown: Prometheus takes sums to grow.
    """

    def __init__(self, name: str, about: str, edges: Sequence[float], labels: Sequence[str] = ()) -> None:
        self.name, self.about, self.labels = name, about, tuple(labels)
        self._edges = tuple(edges)
        self._series: dict[Labels, Series] = {}

    def series(self, *labels: str, edges: Sequence[float] | None = None) -> Series:
        """Return the series of these label values, creating it empty; keep it to observe without a look-up."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Series(self._edges if edges is None else tuple(edges))
        return series

    def forget(self, *first: str) -> None:
        """Stop showing the series whose first label values are these."""
        self._series = {labels: series for labels, series in self._series.items() if labels[: len(first)] != first}

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.about, labels=self.labels)
        is_signed = min(self._edges, default=0.0) < 0
        for labels, series in self._series.items():
            family.add_metric(labels, series.collect(), None if is_signed else series.total)
        return family


def geometric(first: float, last: float, per_decade: int) -> tuple[float, ...]:
    """Return edges from `first` to at least `last`, evenly spaced in the logarithm, to 3 significant digits."""
    edges = [first]
    while edges[-1] < last * 0.999:
        edges.append(float(f"{first * 10 ** (len(edges) / per_decade):.3g}"))
    return tuple(edges)


def to_signed(edges: Sequence[float]) -> tuple[float, ...]:
    """Return the edges with their negatives and 0."""
    return (*(-edge for edge in reversed(edges)), 0.0, *edges)


def to_tape_edges(capacity: int, most: int = 24) -> tuple[int, ...]:
    """Return edges for tape lengths: each length up to a capacity, or evenly spaced ones where those are too many."""
    step = -(-(capacity + 1) // most)
    return (*range(0, capacity, step), capacity)
