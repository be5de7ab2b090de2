"""The contents of a dashboard as plain data: panels and their queries, independent of Grafana."""

from dataclasses import dataclass
from enum import StrEnum

JOB = 'job="$job"'
MODEL = f'{JOB},model=~"$model"'
SAMPLE = f'{MODEL},version=~"$version",bucket=~"$bucket"'
BUCKET = f'{MODEL},bucket=~"$bucket"'
RATE = "$__rate_interval"


class Kind(StrEnum):
    """How a panel draws its series."""

    LINES = "lines"
    STACKED = "stacked"
    NUMBER = "number"
    HEATMAP = "heatmap"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are named."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One panel. `about` says what to read from it; `needs` names what it is empty without.

    Units: those of Grafana: `s`, `percentunit`, `reqps`, `short`, ...
    """

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 12
    height: int = 8
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: charts under row titles. `variables` are the labels that can be chosen from."""

    uid: str
    title: str
    about: str
    rows: tuple[tuple[str, tuple[Chart, ...]], ...]
    variables: tuple[str, ...] = ("model",)

    @property
    def charts(self) -> list[Chart]:
        return [chart for _, charts in self.rows for chart in charts]


def rate(metric: str, labels: str, by: str = "") -> str:
    """Return the growth a second of a counter, summed by some labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{labels}}}[{RATE}]))"


def ratio(part: str, whole: str) -> str:
    """Return a share; nothing while there is no whole."""
    return f"{part} / ({whole} > 0)"


def causes(part: str, whole: str) -> Query:
    """Return, by cause, a counter's share of a whole that knows no causes."""
    return Query(f"{rate(part, MODEL, 'cause')} / ignoring (cause) group_left () ({whole} > 0)", "{{cause}}")


def quantile(q: float, histogram: str, labels: str, by: str = "") -> str:
    """Return a quantile of a histogram, by some labels."""
    grouped = f"{by}, le" if by else "le"
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', labels, grouped)})"


def mean(histogram: str, labels: str, by: str = "") -> str:
    """Return the mean of a histogram, by some labels."""
    return ratio(rate(f"{histogram}_sum", labels, by), rate(f"{histogram}_count", labels, by))


def quantiles(histogram: str, labels: str) -> tuple[Query, ...]:
    """Return queries for the median, the 90th and the 99th percentile."""
    return tuple(Query(quantile(q, histogram, labels), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99))


def heatmap(title: str, about: str, histogram: str, labels: str, unit: str = "short", width: int = 12) -> Chart:
    """Return a heat map of a histogram over time."""
    query = Query(rate(f"{histogram}_bucket", labels, "le"), "{{le}}")
    return Chart(title, about, unit, (query,), Kind.HEATMAP, width)
