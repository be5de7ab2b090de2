"""The report's part on images."""

import math
from collections.abc import Mapping
from pathlib import Path

from adatape.study import charts
from adatape.study.tables import Result, Seeds, accuracy, gather, percent, table
from adatape.study.verdicts import (
    CONTRADICTED,
    NOT_SHOWN,
    SHOWN,
    Gathered,
    Verdict,
    above_one,
    compare,
    difference,
    judge,
    with_seeds,
)

ADAPTIVE = ("uvit", "u2t", "a-vit", "pondernet-vit")
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FULL = "adatape-conv"
LINEAR = ("adatape-input", "linear-bank-2")
"""Linear banks of two resolutions; at the border of a convolutional one, entries see its padding."""
PLACES = """Where it reads: the centre is the middle half of rows and columns, the border the outermost ring; the
interval is from resampled images of one model. Only linear banks are judged, for at the border of a convolutional
bank the entries see its padding, and may be shunned for that."""
MEANING = """All models have the same width, recipe, images and epochs, and six blocks, or one that is run up to six
times. `vit-P` has patches of P pixels. `adatape-input` and `adatape-learn` have four coarse patches (16 px) and
read up to 16 tokens from a bank of 64 linear patches of 4 px, or of 64 learned entries; `adatape-input-8` has
patches of 8 px. The bank of `adatape-conv` comes from three small convolutions, as in the shipped families; no
other model has any, so this row is no comparison of like with like. `uvit`, `u2t`, `a-vit` and `pondernet-vit` have
patches of 8 px. Speeds are measured in eager torch on one core, in CPU time because the machine was shared; for a
batch of one the many small operations of the reading loop dominate, which a compiled graph does not pay."""


def write(results: list[Result], out: Path) -> tuple[str, list[Verdict]]:
    """Return the text and the verdicts; write the charts."""
    found = gather(results)
    models = [seeds for (group, _), seeds in found.items() if group == "models"]
    recipe, figures = results[0]["recipe"], results[0]["figures"]
    head = (
        f"Data {results[0]['data']}: {figures['num_train']:,} training images, {recipe['epochs']:g} epochs, batches of "
        f"{recipe['batch_size']}; {figures['num_samples']:,} test images."
    )
    parts = ["## Images\n", MEANING, "", head, "", _models_table(models), ""]
    if models:
        charts.quality_by_cost(models, out / "images-cost.png")
        parts += ["![Accuracy against cost](images-cost.png)", ""]
    parts += ["### A frontier from one model\n", _frontiers(models), ""]
    if any(group == "ablations" for group, _ in found):
        parts += ["### One thing changed\n", _ablations(found), ""]
    parts += ["### What is read\n", PLACES, "", _behaviour(found, out), ""]
    return "\n".join(parts), _verdicts(found)


def _models_table(models: list[Seeds]) -> str:
    rows = [
        [
            seeds.variant,
            percent(seeds),
            f"{seeds.mean(lambda r: r['figures']['flops']) / 1e6:.1f}",
            f"{seeds.mean(lambda r: r['figures']['depth']):.2f}",
            f"{seeds.mean(lambda r: r['figures']['tape']):.1f}",
            f"{seeds.mean(lambda r: r['figures']['images_per_s']['1']):.0f}",
            f"{seeds.mean(lambda r: r['figures']['images_per_s']['32']):.0f}",
            f"{seeds.results[0]['parameters'] / 1e3:.0f}",
            str(len(seeds.results)),
        ]
        for seeds in models
    ]
    head = [
        "model",
        "accuracy (%)",
        "mean MFLOPs",
        "mean depth",
        "mean tape",
        "images/s, batch 1",
        "images/s, batch 32",
    ]
    return table([*head, "parameters (k)", "seeds"], rows)


def _frontiers(models: list[Seeds]) -> str:
    rows = []
    for seeds in models:
        points = seeds.results[0]["figures"].get("frontier")
        if points:
            cells = [f"{100 * point['accuracy']:.1f} at {point['mean_flops'] / 1e6:.1f}" for point in points]
            rows.append([seeds.variant, *cells])
    caps = [f"cap {cap}" for cap in (0, 1, 2, 4, 8, 16)]
    return "Accuracy (%) of the first seed at mean MFLOPs:\n\n" + table(["model", *caps], rows)


def _ablations(found: Gathered) -> str:
    full = found.get(("models", FULL))
    rows = [[f"{FULL}, as it is", percent(full), "", _tape(full), str(len(full.results)) if full else "0"]]
    for (group, variant), seeds in found.items():
        if group == "ablations":
            rows.append([variant, percent(seeds), _gap(seeds, full), _tape(seeds), str(len(seeds.results))])
    return table(["changed", "accuracy (%)", "difference (points)", "mean tape", "seeds"], rows)


def _gap(ours: Seeds, full: Seeds | None) -> str:
    if full is None:
        return ""
    gap, half = difference(ours, full)
    return f"{100 * gap:+.1f} ± {100 * half:.1f}"


def _tape(seeds: Seeds | None) -> str:
    return f"{seeds.mean(lambda result: result['figures']['tape']):.1f}" if seeds else ""


def _behaviour(found: Gathered, out: Path) -> str:
    readers = {
        f"{variant}": seeds.results[0]["figures"]["behaviour"]
        for (_, variant), seeds in found.items()
        if "behaviour" in seeds.results[0]["figures"]
    }
    maps = {name: one["reads_by_entry"] for name, one in readers.items() if "reads_by_entry" in one}
    chosen = {name: maps[name] for name in (*LINEAR, FULL, "bank-2", "bank-8") if name in maps}
    if not chosen:
        return "No run that reads an input-driven bank."
    charts.heat_maps(chosen, out / "images-reads.png")
    rows = [
        [name, _ratio(one), _correlation(one), _lengths(one), _extremes(one)]
        for name, one in readers.items()
        if name in {*chosen, "adatape-input-8", "adatape-learn"}
    ]
    head = ["model", "centre / border (95 %)", "tape wanted and loss, r (95 %)", "wanted if right / wrong"]
    parts = [
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
    return "\n".join(parts)


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


def _verdicts(found: Gathered) -> list[Verdict]:
    ours = found.get(("models", "adatape-input"))
    verdicts = [_at_equal_cost(ours, found.get(("models", name)), name) for name in ADAPTIVE]
    verdicts.append(_knob(found.get(("models", "adatape-input")), "adatape-input"))
    verdicts.append(_knob(found.get(("models", FULL)), FULL))
    full = found.get(("models", FULL))
    claims = {
        "one-ffn": "Separate feed-forward networks for tape tokens are better",
        "random-entries": "Reading matters: the reader's choice beats random entries",
        "first-entries": "The reader's choice beats the first entries",
        "K=1": "Merging four entries a token beats one",
        "simple-query": "The averaged query beats the last key alone",
    }
    verdicts += [compare(claim, full, found.get(("ablations", name))) for name, claim in claims.items()]
    capless, claim = found.get(("ablations", "no-caps")), "Random caps in training make a tape of one token better"
    verdicts.append(compare(claim, full, capless, at_cap_one))
    ratios = _ratios(found)
    return [*verdicts, above_one("Central patches are read more often than those of the border (linear bank)", ratios)]


def _at_equal_cost(ours: Seeds | None, theirs: Seeds | None, name: str) -> Verdict:
    """Judge AdaTape's best cap that costs no more than the other model, seed by seed."""
    claim = f"At equal cost AdaTape (linear bank) beats {name}"
    if ours is None or theirs is None:
        return Verdict(claim, "not run", "")
    limit = theirs.mean(lambda result: result["figures"]["flops"])
    best = [
        max((p["accuracy"] for p in r["figures"]["frontier"] if p["mean_flops"] <= limit), default=0.0)
        for r in ours.results
    ]
    others, mean = theirs.values(accuracy), sum(best) / len(best)
    variance = mean * (1 - mean) / ours.num_samples + theirs.accuracy * (1 - theirs.accuracy) / theirs.num_samples
    gap, half = mean - theirs.accuracy, 1.96 * math.sqrt(variance)
    verdict = with_seeds(judge(gap, half, best, others), ours, theirs)
    numbers = f"{100 * mean:.1f} % against {100 * theirs.accuracy:.1f} % at up to {limit / 1e6:.1f} MFLOPs"
    seeds = f"{len(best)} and {len(others)} seeds"
    return Verdict(claim, verdict, f"{numbers}: {100 * gap:+.1f} ± {100 * half:.1f} points, {seeds}")


def _knob(seeds: Seeds | None, name: str) -> Verdict:
    claim = f"More tape, more accuracy, from one model ({name})"
    if seeds is None:
        return Verdict(claim, "not run", "")
    ends = [(r["figures"]["frontier"][0], r["figures"]["frontier"][-1]) for r in seeds.results]
    gains = [full["accuracy_low"] - none["accuracy_high"] for none, full in ends]
    verdict = (
        SHOWN
        if min(gains) > 0
        else CONTRADICTED
        if max(f["accuracy"] - n["accuracy"] for n, f in ends) < 0
        else NOT_SHOWN
    )
    verdict = with_seeds(verdict, seeds)
    numbers = ", ".join(f"{100 * none['accuracy']:.1f} to {100 * full['accuracy']:.1f} %" for none, full in ends)
    return Verdict(claim, verdict, f"cap 0 to full tape, each seed: {numbers}")


def at_cap_one(result: Result) -> float:
    """Return the accuracy with at most one tape token."""
    return next(float(point["accuracy"]) for point in result["figures"]["frontier"] if point["cap"] == 1)


def _ratios(found: Gathered) -> Mapping[str, tuple[float, float, float]]:
    ratios = {}
    for (_, variant), seeds in found.items():
        for result in seeds.results if variant in LINEAR else ():
            ratio, low, high = result["figures"]["behaviour"]["centre_ratio"]
            ratios[f"{variant} seed {result['seed']}"] = (ratio, low, high)
    return ratios
