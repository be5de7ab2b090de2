"""What the results say of each claim about images."""

import math
from collections.abc import Mapping

from adatape.curve import Z_95
from adatape.study.tables import NOT_RUN, Result, Seeds, Speeds, accuracy, best_rate
from adatape.study.verdicts import (
    Gathered,
    Verdict,
    above_one,
    compare,
    faster,
    judge,
    numbered,
    with_seeds,
)

ADAPTIVE = ("uvit", "u2t", "a-vit", "pondernet-vit")
OURS, FULL = "adatape-input", "adatape-conv"
"""The AdaTape that is compared with others, and the one with a convolutional bank, whose parts are."""
LINEAR = (OURS, "linear-bank-2")
"""Linear banks of two resolutions; at the border of a convolutional one, entries see its padding."""
BATCH_SIZE = 32


def judged(found: Gathered, speeds: Speeds) -> list[Verdict]:
    """Return the verdicts on the authors' claims, and on the questions they leave open."""
    ours, full = found.get(("models", OURS)), found.get(("models", FULL))
    rates = {name: best_rate(speeds, name, BATCH_SIZE) for name in (OURS, *ADAPTIVE)}
    parts = {
        "random-entries": "Reading matters: the reader's choice beats random entries",
        "first-entries": "The reader's choice beats the first entries",
        "K=1": "Merging four entries a token beats one",
        "simple-query": "The averaged query beats the last key alone",
    }
    capless = found.get(("ablations", "no-caps"))
    return [
        *numbered("2", *(_at_equal_cost(ours, found.get(("models", name)), name) for name in ADAPTIVE)),
        *numbered(
            "2",
            faster(
                "The larger AdaTape (linear bank) is faster than the smaller depth-adaptive models, batches of 32",
                rates.pop(OURS),
                rates,
            ),
        ),
        *numbered(
            "3",
            compare("Separate feed-forward networks for tape tokens are better", full, _ablated(found, "one-ffn")),
        ),
        *numbered(
            "4",
            above_one(
                "Central patches are read more often than those of the border (linear banks, two resolutions)",
                _ratios(found),
            ),
        ),
        *numbered("5", _knob(ours, OURS), _knob(full, FULL)),
        *(compare(claim, full, _ablated(found, name)) for name, claim in parts.items()),
        compare("Random caps in training make a tape of one token better", full, capless, at_cap_one),
        compare("At full tape, training without random caps is better", capless, full),
    ]


def _ablated(found: Gathered, name: str) -> Seeds | None:
    return found.get(("ablations", name))


def _at_equal_cost(ours: Seeds | None, theirs: Seeds | None, name: str) -> Verdict:
    """Judge AdaTape's best cap that costs no more than the other model, seed by seed."""
    claim = f"At equal cost AdaTape (linear bank) beats {name}"
    if ours is None or theirs is None:
        return Verdict(claim, NOT_RUN, "")
    limit = theirs.mean(lambda result: result["figures"]["flops"])
    best = [
        max((p["accuracy"] for p in r["figures"]["frontier"] if p["mean_flops"] <= limit), default=0.0)
        for r in ours.results
    ]
    others, mean = theirs.values(accuracy), sum(best) / len(best)
    variance = mean * (1 - mean) / ours.num_samples + theirs.accuracy * (1 - theirs.accuracy) / theirs.num_samples
    gap, half = mean - theirs.accuracy, Z_95 * math.sqrt(variance)
    verdict = with_seeds(judge(gap, half, best, others), ours, theirs)
    numbers = f"{100 * mean:.1f} % against {100 * theirs.accuracy:.1f} % at up to {limit / 1e6:.1f} MFLOPs"
    seeds = f"{len(best)} and {len(others)} seeds"
    return Verdict(claim, verdict, f"{numbers}: {100 * gap:+.1f} ± {100 * half:.1f} points, {seeds}")


def _knob(seeds: Seeds | None, name: str) -> Verdict:
    claim = f"More tape, more accuracy, from one model ({name})"
    if seeds is None:
        return Verdict(claim, NOT_RUN, "")
    first, last = ([r["figures"]["frontier"][end]["accuracy"] for r in seeds.results] for end in (0, -1))
    means = [sum(values) / len(values) for values in (first, last)]
    half = Z_95 * math.sqrt(sum(mean * (1 - mean) for mean in means) / seeds.num_samples)
    verdict = with_seeds(judge(means[1] - means[0], half, last, first), seeds)
    each = ", ".join(f"{100 * none:.1f} to {100 * full:.1f} %" for none, full in zip(first, last, strict=True))
    gain = f"{100 * (means[1] - means[0]):+.1f} ± {100 * half:.1f} points"
    return Verdict(claim, verdict, f"cap 0 to full tape: {gain}; each seed: {each}")


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
