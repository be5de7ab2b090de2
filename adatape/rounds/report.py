"""What `python -m adatape.evaluate RUN` prints and writes for a rounds model."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from adatape.checkpoint import write_json
from adatape.data import Dataset, open_source
from adatape.rounds.checkpoint import load_run
from adatape.rounds.evaluate import answer, judge, measured
from adatape.rounds.model import RoundsModel
from adatape.rounds.worth import cross_fit


def evaluate_run(run_dir: Path, source: str | None, split_name: str) -> dict[str, Any]:
    """Judge a run on one split; prices are chosen on the validation images, out of fold.

    Raises: ValueError if the data are not those of the run.
    """
    model, run = load_run(run_dir)
    if not isinstance(model, RoundsModel):
        raise ValueError(f"{run_dir}; got a model that reads once; expected one with rounds")  # noqa: TRY004  # bad input
    share = float(run.recipe["validation_share"])
    data: Dataset = open_source(source or run.data, image_size=model.config.image_size, validation_share=share)
    if data.class_names != run.class_names:
        raise ValueError(f"classes of {data.name}; got {data.class_names}; expected the run's {run.class_names}")
    logits_NPC = answer(model, data.validation)
    estimates = cross_fit(logits_NPC, torch.from_numpy(data.validation.y)).estimates
    chosen_on = measured(model, logits_NPC, data.validation.y, estimates)
    split = data.split(split_name)
    judged = chosen_on if split_name == "validation" else measured(model, answer(model, split), split.y)
    price = run.default_price if run.default_price is not None else chosen_on.default_price()
    told = {"data": data.name, "split": split_name, "data_digest": split.digest}
    return {**told, **judge(model, chosen_on, judged, split, price)}


def table(told: dict[str, Any]) -> str:
    """Return the figures as lines for people."""
    lines = [f"{told['data']} {told['split']}: {told['num_samples']} samples, digest {told['data_digest'][:12]}"]
    lines += [
        f"cap {row['cap']:3d}  accuracy {row['accuracy']:.2%} ({row['low']:.2%} to {row['high']:.2%})  "
        f"{row['mflops']:.2f} MFLOPs"
        for row in told["prefixes"]
    ]
    lines += [
        f"step {row['from']} to {row['to']}: {row['points']:+.2f} points (95 % above {row['low']:+.2f})"
        for row in told["steps"]
    ]
    lines += [
        f"price {row['price']:.3g}{' (default)' if row['price'] == told['default_price'] else ''}: "
        f"accuracy {row['accuracy']:.2%} at a mean of {row['mean_mflops']:.2f} MFLOPs, {row['mean_tape']:.2f} tokens; "
        f"{row['gain_points']:+.2f} points over fixed caps (95 % above {row['gain_low']:+.2f}), "
        f"{row['saving']:.2f}x cheaper"
        for row in told["adaptive"]
    ]
    lines += [
        f"order at {cap}: chosen {row['chosen']:.2%}, random {row['random']:.2%}, centre out {row['centre_out']:.2%}"
        for cap, row in told["order"].items()
    ]
    fifths = ", ".join(f"{tape:.2f}" for tape in told["tape_by_fifth"])
    need = f"hardest / easiest {told['hard_over_easy']:.2f}; r(tape, loss) {told['r_tape_loss']:.3f}"
    return "\n".join(
        [
            *lines,
            f"FLOPs full / cap 0: {told['full_over_cap0']:.2f}; full / adaptive: {told['full_over_adaptive']:.2f}",
            f"tape by fifth, from easy to hard: {fifths}; {need}",
            f"calibration error {told['calibration_error']:.2f} points, ahead {told['calibration_error_ahead']:.2f}",
        ]
    )


def write(told: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON, and beside them the curve and the reliability plot."""
    write_json(path, told)
    _plot_curve(told, path.with_suffix(".png"))
    _plot_reliability(told, path.with_name(f"{path.stem}-reliability.png"))


def _plot_curve(told: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    fixed, adaptive = told["prefixes"], sorted(told["adaptive"], key=lambda row: row["mean_mflops"])
    axes.plot(
        [row["mflops"] for row in fixed], [100 * row["accuracy"] for row in fixed], marker="o", label="fixed caps"
    )
    x, y = [row["mean_mflops"] for row in adaptive], [100 * row["accuracy"] for row in adaptive]
    axes.plot(x, y, marker="s", label="stopped by price")
    axes.set_xlabel("mean FLOPs an image (millions)")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(f"{told['data']} {told['split']}, {told['num_samples']} images")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _plot_reliability(told: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for cap, bins in told["reliability"].items():
        axes.plot(bins["estimated"], bins["observed"], marker="o", markersize=3, label=f"prefix {cap}")
    axes.set_xlabel("estimated accuracy")
    axes.set_ylabel("observed accuracy")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
