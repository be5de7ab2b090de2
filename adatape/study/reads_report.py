"""The report's part on what is read: where in the bank, and how much for which image."""

from pathlib import Path

from adatape.study import charts
from adatape.study.image_verdicts import FULL, LINEAR
from adatape.study.tables import table
from adatape.study.verdicts import Gathered

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PLACES = """Where it reads: the centre is the middle half of rows and columns, the border the outermost ring; the
interval is from resampled images of one model. Only linear banks are judged, for at the border of a convolutional
bank the entries see its padding, and may be shunned for that. *Tape wanted* is the length at which reading halts by
itself; *r* is its correlation with the loss."""


def write(found: Gathered, out: Path) -> list[str]:
    """Return the text, line by line; write the charts."""
    readers = {
        f"{variant}": seeds.results[0]["figures"]["behaviour"]
        for (_, variant), seeds in found.items()
        if "behaviour" in seeds.results[0]["figures"]
    }
    maps = {name: one["reads_by_entry"] for name, one in readers.items() if "reads_by_entry" in one}
    chosen = {name: maps[name] for name in (*LINEAR, FULL, "bank-2", "bank-8") if name in maps}
    if not chosen:
        return ["No run that reads an input-driven bank."]
    charts.heat_maps(
        {f"{name}, {_entry_px(found, name)} px": one for name, one in chosen.items()}, out / "images-reads.png"
    )
    rows = [
        [name, _ratio(one), _correlation(one), _lengths(one), _extremes(one)]
        for name, one in readers.items()
        if name in {*chosen, "adatape-input-8", "adatape-learn"}
    ]
    head = ["model", "centre / border (95 %)", "tape wanted and loss, r (95 %)", "wanted if right / wrong"]
    parts = [
        PLACES,
        "",
        "![Reads by bank entry](images-reads.png)",
        "",
        table([*head, "shortest; longest (test indices)"], rows),
        "",
    ]
    histograms = {
        variant: seeds.results[0]["figures"]["tape_histogram"]
        for (_, variant), seeds in found.items()
        if variant.startswith("ponder-0") or variant == FULL
    }
    if histograms:
        charts.tape_histograms(histograms, out / "images-tape.png")
        parts += ["![Tape lengths by ponder weight](images-tape.png)", ""]
    shown = FULL if FULL in readers else next(iter(chosen))
    if len(readers[shown]["wanted_by_class"]) == len(CLASS_NAMES):
        charts.tape_by_class(readers[shown], CLASS_NAMES, out / "images-classes.png")
        parts += [f"![Tape by class and answer, {shown}](images-classes.png)"]
    return parts


def _entry_px(found: Gathered, name: str) -> int:
    """Return the side of the patch that a bank entry stands for."""
    models = (seeds.results[0]["model"] for (_, variant), seeds in found.items() if variant == name)
    return int(next(models)["tape"]["bank_patch"])


def _ratio(one: dict[str, list[float]]) -> str:
    if "centre_ratio" not in one:
        return ""
    return "{:.2f} ({:.2f} to {:.2f})".format(*one["centre_ratio"])


def _correlation(one: dict[str, list[float] | None]) -> str:
    found = one["wanted_loss_correlation"]
    return "{:+.3f} ({:+.3f} to {:+.3f})".format(*found) if found else "the tape does not vary"


def _lengths(one: dict[str, float | None]) -> str:
    right, wrong = one["wanted_when_right"], one["wanted_when_wrong"]
    return " / ".join("none" if value is None else f"{value:.2f}" for value in (right, wrong))


def _extremes(one: dict[str, list[int]]) -> str:
    return "; ".join(", ".join(map(str, one[name][:3])) for name in ("shortest", "longest"))
