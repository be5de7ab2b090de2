"""The report: tables, charts and verdicts, all from result files.

The text that frames them is `docs/results`' own; every figure in it comes from a result file.
"""

from collections.abc import Callable
from pathlib import Path

from adatape.study import image_report, parity_report
from adatape.study.runs import read_results
from adatape.study.tables import Result, gather, table
from adatape.study.verdicts import Verdict

Part = Callable[[list[Result], Path], tuple[str, list[Verdict]]]
PARTS: dict[str, Part] = {"parity": parity_report.write, "images": image_report.write}
HEAD = """# What AdaTape claims, trained and measured here

Written by `python -m adatape.study report` from the result files beside it; nothing in it is typed by hand. A number
in percent is the mean over seeds, with the lowest and the highest seed in brackets. *Shown* and *contradicted* need
an interval that excludes the other outcome and seeds that agree; all else is *not shown*. The interval is of the test
samples, not of training anew: read *one seed* as a hint. What failed on the way, and what to run next, is in the
[log of trials](../LOG.md); how to repeat it is at the end.
"""

COMMANDS = """Every run that is not here yet is done, and one that was stopped goes on, with

```text
python -m adatape.study parity
python -m adatape.study images --data cifar10.npz --seeds 2
python -m adatape.study report --results docs/results/data --report docs/results
```

after their result files are copied from `runs/study/results` to `docs/results/data`; the data is CIFAR-10 in any form
that training takes. `--quick` shows in minutes that the path works; `--part 1/2` shares the runs between processes.
"""


def write_report(results: Path, out: Path) -> Path:
    """Write `report.md` and its charts; return its path.

    Raises: ValueError if there is no result at all.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = {name: read_results(results / name) for name in PARTS}
    if not any(found.values()):
        raise ValueError(f"--results; got {results} without result files; expected {' or '.join(PARTS)}/*.json")
    texts, verdicts = [], []
    for name, part in PARTS.items():
        if found[name]:
            text, judged = part(found[name], out)
            texts.append(text)
            verdicts += judged
    rows = ([verdict.claim, f"**{verdict.verdict}**", verdict.evidence] for verdict in verdicts)
    summary = f"## Verdicts\n\n{table(['claim', 'verdict', 'numbers'], rows)}\n"
    ran = f"## What ran\n\n{_what_ran(found)}\n\n{COMMANDS}"
    path = out / "report.md"
    path.write_text("\n".join([HEAD, summary, *texts, ran]))
    return path


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
