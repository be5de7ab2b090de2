"""The plots of an open run as SVG, in the colours of the page, light or dark."""

from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.summary import Interval, Row, Run

INK, FAINT, LIMIT = "#010101", "#020202", "#030303"
THEME = {INK: "var(--ink)", FAINT: "var(--line)", LIMIT: "var(--limit)"}
SERIES = [f"#0400{index:02x}" for index in range(8)]
THEME |= {colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)}
"""Placeholders, and the page's colours that take their place."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
SIZE = (6.4, 3.9)
MIN_SHARE = 1e-3


def colour_of(index: int) -> str:
    """Return the colour of a cap, in turn."""
    return SERIES[index % len(SERIES)]


def _draw(paint: Callable[[Figure], None], name: str) -> str:
    """Paint a figure and return it as an SVG element."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=SIZE, layout="constrained", facecolor="none")
        paint(figure)
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace("<svg ", '<svg aria-hidden="true" ', 1)
    for placeholder, colour in THEME.items():
        svg = svg.replace(placeholder, colour)
    return svg


def draw_frontier(rows: Sequence[Row], *, curve_label: str) -> str:
    """Draw quality against cost and against the 99th percentile, cap by cap."""

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        kinds = ((curve_label, [row.accuracy for row in rows], "o-"), ("agreement", [r.agreement for r in rows], "s--"))
        for axes, x in ((left, [row.useful_flops / 1e6 for row in rows]), (right, [row.p99_ms for row in rows])):
            for index, (label, shares, marker) in enumerate(kinds):
                joined = marker if axes is left else marker[0]
                _whiskers(axes, x, shares, joined, colour_of(index), label)
            for row, place in zip(rows, x, strict=True):
                if np.isfinite(place):
                    at = (place, 100 * row.accuracy.low)
                    axes.annotate(row.cap, at, (0, -4), textcoords="offset points", ha="center", va="top", fontsize=8)
            axes.margins(x=0.1, y=0.12)
        _label(left, "useful MFLOPs an image", "%")
        right.set_xscale("log")
        _label(right, "p99, ms", "")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)

    return _draw(paint, "frontier")


def _whiskers(axes: Axes, x: Sequence[float], shares: Sequence[Interval], marker: str, colour: str, label: str) -> None:
    y = [100 * share.value for share in shares]
    low = [100 * (share.value - share.low) for share in shares]
    high = [100 * (share.high - share.value) for share in shares]
    axes.errorbar(x, y, [low, high], fmt=marker, color=colour, capsize=3, markersize=4.5, label=label)


def draw_latency(rows: Sequence[Row], slo_ms: float) -> str:
    """Draw the percentiles of each cap beside the service level."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        answered = [(place, row) for place, row in enumerate(rows) if np.isfinite(row.p99_ms)]
        places = [place for place, _ in answered]
        axes.vlines(places, [row.p50_ms for _, row in answered], [row.p99_ms for _, row in answered], color=FAINT, lw=5)
        for index, (label, field) in enumerate((("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))):
            values = [getattr(row, field) for _, row in answered]
            axes.plot(places, values, "o", color=colour_of(index), markersize=7, label=label)
        _limit(axes.axhline, slo_ms)
        axes.set_xticks(range(len(rows)), [f"cap {row.cap}" for row in rows])
        axes.set_yscale("log")
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.15, y=0.1)
        _label(axes, "", "ms from the intended send")
        figure.legend(loc="outside upper center", ncols=4)

    return _draw(paint, "latency")


def draw_tail(runs: Sequence[Run], slo_ms: float) -> str:
    """Draw which share of all requests came later than a time; what was refused came never."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for index, run in enumerate(runs):
            times_ms = np.sort(run.outcomes.latency_s[run.outcomes.is_ok]) * 1e3
            later = 1 - np.arange(1, len(times_ms) + 1) / len(run.outcomes.status)
            axes.step(
                times_ms,
                np.maximum(later, MIN_SHARE / 10),
                where="post",
                color=colour_of(index),
                label=f"cap {run.name}",
            )
        _limit(axes.axvline, slo_ms)
        axes.set(xscale="log", yscale="log", ylim=(MIN_SHARE, 1))
        _label(axes, "ms from the intended send", "share of requests later")
        figure.legend(loc="outside upper center", ncols=6)

    return _draw(paint, "tail")


def draw_timeline(runs: Sequence[Run], slo_ms: float) -> str:
    """Draw what was sent and how late the slowest twentieth came, in each slice of time."""

    def paint(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
        for index, run in enumerate(runs):
            edges = np.linspace(0, run.duration_s, 31)
            sent = np.histogram(run.outcomes.sent_s, edges)[0] / np.diff(edges)
            if index == 0:
                top.stairs(sent, edges, color=INK)
            bottom.plot(edges[:-1], _p95_ms(run, edges), color=colour_of(index), label=f"cap {run.name}")
        _limit(bottom.axhline, slo_ms)
        bottom.set_yscale("log")
        _label(top, "", "sent/s")
        top.set_ylim(bottom=0)
        _label(bottom, "seconds from the start of the cap", "p95, ms")
        figure.legend(*bottom.get_legend_handles_labels(), loc="outside upper center", ncols=6)

    return _draw(paint, "timeline")


def _p95_ms(run: Run, edges: Any) -> list[float]:
    """Return the 95th percentile of what was sent in each slice and answered; a gap where nothing was."""
    slices = np.digitize(run.outcomes.sent_s, edges) - 1
    times_ms = run.outcomes.latency_s * 1e3
    chosen = [times_ms[(slices == index) & run.outcomes.is_ok] for index in range(len(edges) - 1)]
    return [float(np.percentile(each, 95)) if len(each) else float("nan") for each in chosen]


def _limit(line: Callable[..., Any], slo_ms: float) -> None:
    line(slo_ms, color=LIMIT, linestyle="--", linewidth=1.2, label=f"SLO {slo_ms:g} ms")


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
