"""The report's part on images."""

from pathlib import Path

from adatape.study import charts, reads_report
from adatape.study.image_verdicts import FULL, judged
from adatape.study.tables import NOT_RUN, ONNX, TORCH, Result, Seeds, Speeds, gather, percent, table
from adatape.study.verdicts import Gathered, Verdict, difference

MEANING = """All models have the same width, recipe, images and epochs, and six blocks, or one that is run up to six
times. `vit-P` has patches of P pixels. `adatape-input` and `adatape-learn` have four coarse patches (16 px) and
read up to 16 tokens from a bank of 64 linear patches of 4 px, or of 64 learned entries; `adatape-input-8` has
patches of 8 px. The bank of `adatape-conv` comes from three small convolutions, as in the shipped families; no
other model has any, so this row is no comparison of like with like. `uvit`, `u2t`, `a-vit` and `pondernet-vit` have
patches of 8 px."""
SPEEDS = """Images a second on one core with one thread, all models in turn in one run, on different test images: the
median, with the slowest and the fastest measurement. On onnxruntime AdaTape is the reader and the trunks that are
served, depth-adaptive models are a graph a step, and what has its answer leaves the batch; A-ViT, whose tokens leave
one by one, has no graphs here. In torch all run as written: there a batch waits for its longest reading or deepest
sample, and the reading loop's many small operations cost most."""
CPU_SPEEDS = """Images a CPU second in torch, measured once behind each run, batches of 32. No run of
`benchmarks.study_speed` is here."""


def write(results: list[Result], out: Path, speeds: Speeds) -> tuple[str, list[Verdict]]:
    """Return the text and the verdicts; write the charts."""
    found = gather(results)
    models = sorted((seeds for (group, _), seeds in found.items() if group == "models"), key=_mean_flops)
    recipe, figures = results[0]["recipe"], results[0]["figures"]
    head = (
        f"Data {results[0]['data']}: {figures['num_train']:,} training images, {recipe['epochs']:g} epochs, batches of "
        f"{recipe['batch_size']}; {figures['num_samples']:,} test images."
    )
    parts = ["## Images\n", MEANING, "", head, "", _models_table(models), ""]
    if models:
        charts.quality_by_cost(models, speeds, out / "images-cost.png")
        parts += ["![Accuracy against cost](images-cost.png)", ""]
        parts += ["### Speed\n", *_speeds(models, speeds), ""]
    parts += ["### A frontier from one model\n", _frontiers(models), ""]
    if any(group == "ablations" for group, _ in found):
        parts += ["### One thing changed\n", _ablations(found), ""]
    parts += ["### What is read\n", *reads_report.write(found, out), ""]
    return "\n".join(parts), judged(found, speeds)


def _mean_flops(seeds: Seeds) -> float:
    return seeds.mean(lambda result: float(result["figures"]["flops"]))


def _models_table(models: list[Seeds]) -> str:
    rows = [
        [
            seeds.variant,
            percent(seeds),
            f"{_mean_flops(seeds) / 1e6:.1f}",
            f"{seeds.mean(lambda r: r['figures']['depth']):.2f}",
            f"{seeds.mean(lambda r: r['figures']['tape']):.1f}",
            f"{seeds.results[0]['parameters'] / 1e3:.0f}",
            str(len(seeds.results)),
        ]
        for seeds in models
    ]
    head = ["model", "accuracy (%)", "mean MFLOPs", "mean depth", "mean tape", "parameters (k)", "seeds"]
    return table(head, rows)


def _speeds(models: list[Seeds], speeds: Speeds) -> list[str]:
    if not speeds:
        rows = [[seeds.variant, f"{seeds.mean(charts.cpu_rate):.0f}"] for seeds in models]
        return [CPU_SPEEDS, "", table(["model", "images/s"], rows)]
    rows = [
        [
            seeds.variant,
            *(_rate(speeds, seeds.variant, runtime, batch) for runtime in (ONNX, TORCH) for batch in (1, 32)),
        ]
        for seeds in models
    ]
    head = [f"{runtime}, batch {batch}" for runtime in (ONNX, TORCH) for batch in (1, 32)]
    return [SPEEDS, "", table(["model", *head], rows)]


def _rate(speeds: Speeds, variant: str, runtime: str, batch: int) -> str:
    found = speeds.get((variant, runtime), {}).get(batch)
    if found is None:
        return "no graphs" if (variant, TORCH) in speeds else NOT_RUN
    return str(found)


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
