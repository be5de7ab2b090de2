"""The report: tables, charts and verdicts, all from result files.

The text that frames them is `docs/results`' own; every figure in it comes from a result file.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from adatape.study import image_report, parity_report
from adatape.study.runs import Spec, read_results
from adatape.study.tables import Result, gather, read_speeds, table
from adatape.study.verdicts import Verdict

Part = Callable[[list[Result], Path], tuple[str, list[Verdict]]]
STUDIES, SPEEDS = ("parity", "images"), "speeds.json"
HEAD = """# What AdaTape claims, trained and measured here

Written by `python -m adatape.study report` from the result files beside it; no figure in it is typed by hand. The
claims are those of the authors, in our words:

1. A Transformer and a Universal Transformer stay at chance on the parity of a string over {-1, 0, 1}; AdaTape does not.
2. At equal cost AdaTape is more accurate on images than other adaptive transformers, and larger AdaTapes are faster
   than smaller depth-adaptive models.
3. Separate feed-forward networks for input and tape tokens are slightly better.
4. Central patches are read more often than others, at two resolutions of the bank.
5. The tape is a knob: more tape, more accuracy.

They were made for ImageNet and larger models; what is judged here is whether they hold for small models and little
training on data that anyone has. A *tape* is the tokens that a model chose to read, *K* how many entries of its *bank*
are merged into each, a *cap* the most it may read; [more words](../glossary.md).
"""
RULE = """*Shown* and *contradicted* need an interval that excludes the other outcome and seeds that agree: the worst of
one side beats the best of the other. All else is *not shown*. Intervals (±) are of 95 % and of the test samples, not of
training anew: read *one seed* as a hint. Accuracies are means over seeds, with the lowest and the highest seed in
brackets, or of one seed with its interval. What failed on the way is in the [log of trials](../LOG.md).
"""

COMMANDS = """Every run that is not here yet is done, and one that was stopped goes on, with

```text
python -m adatape.study parity
python -m adatape.study images --data cifar10.npz
python -m benchmarks.study_speed --data cifar10.npz
python -m adatape.study report --results docs/results/data --report docs/results
```

the last after the result files are copied from `runs/study/results` to `docs/results/data`. The data is CIFAR-10 in
any form that training takes. `--quick` shows in minutes that the path works; `--part 1/2` shares the runs between
processes.
"""


def write_report(results: Path, out: Path, planned: Sequence[Spec]) -> Path:
    """Write `report.md` and its charts; return its path. What of `planned` has no result is told.

    Raises: ValueError if there is no result at all.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {name: read_results(results / name) for name in STUDIES}
    if not any(found.values()):
        raise ValueError(f"--results; got {results} without result files; expected {' or '.join(STUDIES)}/*.json")
    speeds = read_speeds(results / SPEEDS)
    parts: dict[str, Part] = {"parity": parity_report.write, "images": partial(image_report.write, speeds=speeds)}
    texts, verdicts = [], []
    for name, part in parts.items():
        if found[name]:
            text, judged = part(found[name], out)
            texts.append(text)
            verdicts += judged
    ran = f"## What ran\n\n{_what_ran(found)}\n\n### What did not\n\n{_what_did_not(found, planned)}\n\n{COMMANDS}"
    path = out / "report.md"
    path.write_text("\n".join([HEAD, f"## Verdicts\n\n{RULE}\n{_summary(verdicts)}\n", *texts, ran]))
    return path


def _summary(verdicts: list[Verdict]) -> str:
    ordered = sorted(verdicts, key=lambda verdict: verdict.number or "~")
    rows = ([one.number or "–", one.claim, f"**{one.verdict}**", one.evidence] for one in ordered)
    return table(["no.", "claim, or a question it leaves open (–)", "verdict", "numbers"], rows)


def _what_did_not(found: dict[str, list[Result]], planned: Sequence[Spec]) -> str:
    """Return the planned runs without a result, by table and row, of the studies that have any result."""
    have = {
        (result["study"], result["group"], result["variant"], result["seed"])
        for one in found.values()
        for result in one
    }
    missing: dict[tuple[str, str], dict[str, list[str]]] = {}
    for spec in planned:
        if found[spec.study] and (spec.study, spec.group, spec.variant, spec.seed) not in have:
            missing.setdefault((spec.study, spec.group), {}).setdefault(spec.variant, []).append(str(spec.seed))
    if not missing:
        return "Nothing: every planned run is here."
    total = sum(len(seeds) for rows in missing.values() for seeds in rows.values())
    rows = (
        [*place, "; ".join(f"{variant} (seed {', '.join(seeds)})" for variant, seeds in variants.items())]
        for place, variants in missing.items()
    )
    return f"{total} of the planned runs:\n\n{table(['study', 'table', 'runs'], rows)}"


def _what_ran(found: dict[str, list[Result]]) -> str:
    rows = []
    for name, results in found.items():
        hours = sum(result["train_cpu_s"] for result in results) / 3600
        machines = sorted({f"{one['processor']}, {one['threads']} thread" for one in _origins(results)})
        versions = sorted({f"torch {one['torch']}, Python {one['python']}" for one in _origins(results)})
        seeds = sorted({result["seed"] for result in results})
        cells = [str(len(results)), str(len(gather(results))), ", ".join(map(str, seeds)), f"{hours:.1f}"]
        rows.append([name, *cells, "; ".join(machines), "; ".join(versions)])
    head = ["study", "runs", "variants", "seeds", "training, CPU hours", "processor", "versions"]
    return table(head, (row for row in rows if row[1] != "0"))


def _origins(results: list[Result]) -> list[dict[str, str]]:
    return [result["origin"] for result in results]
