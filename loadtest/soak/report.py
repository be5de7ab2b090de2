"""The report of a run, as Markdown and as JSON."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.machine import describe
from loadtest.soak.client_log import Comparison
from loadtest.soak.growth import MIN_JUDGED_S, NUM_BLOCKS, Growth
from loadtest.soak.run import Plan, Run

EVERY_S = 60.0
"""Of the looks so many seconds apart are kept."""


def to_lines(
    run: Run, plan: Plan, family: str, sums: Sequence[Comparison], growth: Growth, faults: Sequence[str]
) -> list[str]:
    """Return the report's lines, the last of which is the verdict."""
    return [
        f"# Soak of {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        "",
        _origin(plan, family),
        "",
        "| sum | expected | counted |",
        "|---|---|---|",
        *(f"| {each.name} | {each.expected:.0f} | {each.counted:.0f} |" for each in sums),
        "",
        "Expected is what the client knows from its log and the receipts, counted what the server's metrics and usage",
        "report say. Calls that left are those whose caller hung up before the answer or in the middle of the body:",
        "some were answered all the same, the others are counted as cancelled, and together they are as many as left.",
        "",
        *_growth(run, growth),
        "",
        *(f"- {fault}" for fault in faults),
        f"soak: {'FAIL' if faults else 'PASS'}: {_figures(run, plan, growth)}",
    ]


def to_document(
    run: Run, plan: Plan, family: str, sums: Sequence[Comparison], growth: Growth, faults: Sequence[str]
) -> Any:
    """Return the same as JSON, with a look for every minute."""
    start_s = run.times_s[0]
    kept, next_s = [], start_s
    for at_s, look in zip(run.times_s, run.looks, strict=True):
        if at_s >= next_s:
            kept.append({"at_s": round(at_s - start_s, 1), **asdict(look)})
            next_s += EVERY_S
    return {
        "origin": _origin(plan, family),
        "verdict": "FAIL" if faults else "PASS",
        "faults": list(faults),
        "duration_s": plan.duration_s,
        "num_calls": run.log.num_calls,
        "num_unexpected": run.log.num_unexpected,
        "num_answers_as_before": run.log.num_repeated,
        "num_reloads": run.num_reloads,
        "sums": [each._asdict() for each in sums],
        "growth": asdict(growth),
        "looks": kept,
    }


def write(path: Path, lines: Sequence[str], document: Any) -> None:
    """Write the report, and the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _growth(run: Run, growth: Growth) -> list[str]:
    reloads_per_h = run.num_reloads / run.lasted_s * 3600
    per_reload = "" if not reloads_per_h else (
        f", or {growth.slope_bytes_per_h / reloads_per_h / 1e3:+.1f} ± "
        f"{growth.interval_bytes_per_h / reloads_per_h / 1e3:.1f} kB a reload"
    )  # fmt: skip
    judged = [] if growth.is_judged else [f"  Too short to be judged: that takes {2 * MIN_JUDGED_S:g} s."]
    before, after = growth.resting_descriptors
    return [
        f"- Memory in the second half: {growth.resident_bytes / 1e6:.1f} MB, slope {_slope(growth)}{per_reload}:",
        f"  a line by the medians of {NUM_BLOCKS} stretches, its 95 % interval; neighbours that are alike count less.",
        *judged,
        f"- Descriptors at rest: {before} before the traffic, {after} after.",
        f"- {run.log.num_repeated} samples took the FLOPs that an earlier one of the same file and cap had taken;",
        f"  {run.log.num_questions} were the first of theirs.",
    ]


def _figures(run: Run, plan: Plan, growth: Growth) -> str:
    log = run.log
    return (
        f"{log.num_calls} calls in {plan.duration_s:g} s, {log.num_unexpected} unexpected answers, "
        f"{run.num_reloads} reloads, memory {growth.resident_bytes / 1e6:.1f} MB with a slope of {_slope(growth)}, "
        f"descriptors {growth.descriptors[0]:g} -> {growth.descriptors[1]:g}, "
        f"threads {growth.threads[0]:g} -> {growth.threads[1]:g}"
    )


def _slope(growth: Growth) -> str:
    return f"{growth.slope_bytes_per_h / 1e6:+.1f} ± {growth.interval_bytes_per_h / 1e6:.1f} MB/h"


def _origin(plan: Plan, family: str) -> str:
    command = (
        f"python -m loadtest.soak --duration {plan.duration_s:g} --rate {plan.rate:g} --reload-every {plan.reload_s:g} "
        f"--seed {plan.seed} --family {family}"
    )
    if plan.server_arguments:
        command = " ".join([command, "--", *plan.server_arguments])
    return f"`{command}` on {describe()}."
