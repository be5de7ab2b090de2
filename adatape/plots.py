"""Plots of what was measured, as PNG and SVG."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adatape.curve import Curve


def plot_curve(curve: Curve, stem: Path) -> None:
    """Draw accuracy, with its interval, against mean FLOPs and against the cap; write `stem`.png and .svg."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    by_flops, by_cap = figure.subplots(1, 2, sharey=True)
    _draw(by_flops, curve, [point.mean_flops / 1e6 for point in curve.points], "mean useful FLOPs a sample (millions)")
    _draw(by_cap, curve, [float(point.cap) for point in curve.points], "cap (tape tokens)")
    for point in (point for point in curve.points if point.cap.bit_count() <= 1):  # 0, 1, 2, 4, 8: legible
        at = (point.mean_flops / 1e6, 100 * point.accuracy)
        by_flops.annotate(f"{point.cap}", at, (3, -9), fontsize=7, textcoords="offset points")
    by_flops.set_ylabel("accuracy (%)")
    figure.suptitle(f"Quality curve, {curve.data} {curve.split} ({curve.num_samples} samples, 95 % Wilson interval)")
    figure.savefig(stem.with_suffix(".png"), dpi=120)
    with mpl.rc_context({"svg.hashsalt": "adatape"}):  # the same curve gives the same file
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _draw(axes: Axes, curve: Curve, x: list[float], label: str) -> None:
    accuracy, low, high = (
        [100 * getattr(point, name) for point in curve.points] for name in ("accuracy", "accuracy_low", "accuracy_high")
    )
    axes.fill_between(x, low, high, alpha=0.2, linewidth=0)
    axes.plot(x, accuracy, marker="o", markersize=3)
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
