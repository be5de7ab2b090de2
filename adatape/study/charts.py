"""Charts of the studies, as PNG files; no picture of any data set is drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from adatape.study.tables import Result, Seeds, Speeds, best_rate

DPI = 110
MARKERS = "osD^vP*X<>"


def new_figure(columns: int = 1, width: float = 6.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many axes side by side."""
    figure = Figure(figsize=(width * columns, 4), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save(figure: Figure, path: Path) -> None:
    """Write the chart; the same figures give the same file with the same library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def accuracy_by_length(series: Mapping[str, Mapping[int, Seeds]], title: str, path: Path) -> None:
    """Draw each model's accuracy, with its seeds, against the length of the strings."""
    figure, (axes,) = new_figure()
    for marker, (name, by_length) in zip(MARKERS, series.items(), strict=False):
        means = [100 * seeds.accuracy for seeds in by_length.values()]
        (line,) = axes.plot(list(by_length), means, marker=marker, label=name, alpha=0.8)
        for length, seeds in by_length.items():
            values = [100 * result["figures"]["accuracy"] for result in seeds.results]
            axes.vlines(length, min(values), max(values), color=line.get_color(), alpha=0.5)
    axes.axhline(50, color="grey", linestyle=":", linewidth=1)
    _label(axes, "length of the string", "test accuracy (%)")
    axes.set_xscale("log", base=2)
    lengths = sorted({length for by_length in series.values() for length in by_length})
    axes.set_xticks(lengths, map(str, lengths))
    axes.set_title(title, fontsize=10)
    save(figure, path)


def learning_curves(several: Sequence[Seeds], title: str, path: Path) -> None:
    """Draw training accuracy against steps, a line a seed."""
    figure, (axes,) = new_figure()
    for index, seeds in enumerate(several):
        for number, result in enumerate(seeds.results):
            axes.plot(
                [row["step"] for row in result["curve"]],
                [100 * row["accuracy"] for row in result["curve"]],
                color=f"C{index}",
                alpha=0.8,
                label=seeds.variant if number == 0 else None,
            )
    _label(axes, "training step", "training accuracy (%)")
    axes.set_title(title, fontsize=10)
    save(figure, path)


def accuracy_by_cap(several: Mapping[str, Seeds], path: Path) -> None:
    """Draw accuracy against the cap as a share of the capacity."""
    figure, (axes,) = new_figure()
    for marker, (name, seeds) in zip(MARKERS, several.items(), strict=False):
        by_cap = seeds.results[0]["figures"]["by_cap"]
        capacity = max(map(int, by_cap))
        axes.plot(
            [int(cap) / capacity for cap in by_cap], [100 * value for value in by_cap.values()], marker, label=name
        )
        axes.lines[-1].set_linestyle("-")
    _label(axes, "cap, as a share of the tape that holds the whole string", "test accuracy (%)")
    save(figure, path)


def cpu_rate(result: Result) -> float:
    """Return the images a CPU second in batches of 32 that were measured behind a run."""
    return float(result["figures"]["images_per_s"]["32"])


def quality_by_cost(models: Sequence[Seeds], speeds: Speeds, path: Path) -> None:
    """Draw accuracy against FLOPs, with AdaTape's frontiers, and against speed, measured side by side or else alone."""
    figure, (by_flops, by_speed) = new_figure(2)
    for marker, seeds in zip(MARKERS * 2, models, strict=False):
        figures = [result["figures"] for result in seeds.results]
        flops = [one["flops"] / 1e6 for one in figures]
        accuracies = [100 * one["accuracy"] for one in figures]
        (points,) = by_flops.plot(flops, accuracies, marker, label=seeds.variant)
        rate = best_rate(speeds, seeds.variant, 32)
        if rate or not speeds:
            rates = [rate.median if rate else cpu_rate(result) for result in seeds.results]
            by_speed.plot(rates, accuracies, marker, label=seeds.variant, color=points.get_color())
        for one in figures:
            frontier = one.get("frontier", [])
            by_flops.plot(
                [point["mean_flops"] / 1e6 for point in frontier],
                [100 * point["accuracy"] for point in frontier],
                color=points.get_color(),
                linewidth=1,
                alpha=0.6,
            )
    _label(by_flops, "mean useful FLOPs an image (millions)", "test accuracy (%)")
    unit = "images per second, batches of 32" if speeds else "images per CPU second, batches of 32, torch"
    _label(by_speed, unit, "test accuracy (%)")
    for axes in (by_flops, by_speed):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(ScalarFormatter())
        axes.tick_params(axis="x", which="both", labelsize=7)
    save(figure, path)


def heat_maps(maps: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw how often each bank entry is read."""
    figure, axes = new_figure(len(maps), width=4.5)
    for one, (name, reads) in zip(axes, maps.items(), strict=True):
        image = one.imshow(reads, cmap="viridis")
        figure.colorbar(image, ax=one, label="mean reads an image")
        one.set_title(name, fontsize=10)
        one.set_axis_off()
    save(figure, path)


def tape_histograms(several: Mapping[str, Sequence[int]], path: Path) -> None:
    """Draw how many images want a tape of each length."""
    figure, (axes,) = new_figure()
    for name, counts in several.items():
        axes.plot(
            range(len(counts)), [100 * count / sum(counts) for count in counts], drawstyle="steps-mid", label=name
        )
    _label(axes, "tape length wanted", "images (%)")
    save(figure, path)


def tape_by_class(behaviour: Mapping[str, Any], class_names: Sequence[str], path: Path) -> None:
    """Draw the mean tape length wanted by class, and by whether the answer is right."""
    figure, (by_class, by_answer) = new_figure(2, width=5)
    by_class.barh(range(len(class_names)), behaviour["wanted_by_class"])
    by_class.set_yticks(range(len(class_names)), class_names, fontsize=8)
    by_class.set_xlabel("mean tape length wanted")
    by_answer.bar(["right", "wrong"], [behaviour["wanted_when_right"] or 0, behaviour["wanted_when_wrong"] or 0])
    by_answer.set_ylabel("mean tape length wanted")
    save(figure, path)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
