"""The report's part on parity."""

from functools import partial
from pathlib import Path

from adatape.study import charts
from adatape.study.mechanism import SYMBOLS
from adatape.study.parity import LENGTHS
from adatape.study.parity_verdicts import MODELS, REFERENCE, judged
from adatape.study.tables import Result, Seeds, accuracy, gather, percent, table
from adatape.study.verdicts import Gathered, Verdict

MEANING = """`adatape` reads the symbols in pairs (K = 2) from an input-driven bank; its main sequence is the whole
string as one token. `transformer` has a token a symbol, `transformer-flat` the same one token as AdaTape and no
tape. `ut-act` is a Universal Transformer with adaptive computation time, `pondernet` a PonderNet; both share a
block, have a token a symbol and pay nothing or little for more steps. All have width 64, two blocks, the same
recipe and the same strings: 1,000 steps of 128. The `deep` ones have three blocks and 1,500 steps, 3,000 above length
32. A run ends early when 500 steps in a row were right in 99.95 % of their strings. At length 8 there are 6,561
strings, and training meets each of them about twenty times: what is learned there may be learned by heart."""
MECHANISM = """Equal symbols are read together, for a query that has just read a symbol looks most like it. So a symbol
whose count is even ends in a pure pair, and one whose count is odd leaves one over, which is merged with another
symbol into a *mixed* token. Whatever the order of reading, once all is read the number of mixed tokens that hold a
symbol is odd exactly when its count is; for the symbol that is read first, one exists exactly then. The trunk has only
to see whether there is such a token; no counting is left."""

CHANGES = """All at length 16. *Best guess from the tape*: of all test strings whose tapes hold the same symbols equally
often (to the trunk a tape has no order), the more frequent answer is given to all; no model that sees only the tape
can do better. *From its length*: the same, from the tape's length alone. *With another's main token*: each string
keeps its tape, and the trunk gets it beside the main token of another string. In a `blind` model the main token says
nothing of the string at all, in training too. `no-merge` keeps the best entry of each pair instead of their sum."""
CARRIER = """Two ways to the answer, then. Merged pairs carry it in the tape alone: a blind model learns as well, and
another string's main token changes nothing. Without merging, a tape says how many pairs have each symbol as their
best entry, about half of its count; that does not tell odd from even. The main token sees the whole string and so can
have the count of ones as a sum, and count and twice the pairs differ by 0 or by 1: a difference of two numbers, not
the parity of one. Not every seed finds it. The tape's length helps, for a mixed pair halts sooner than two pure ones,
but does not carry it. Take the main token away, and `no-merge` ends near the best guess from its tape. K = 1 and the
first entries in order show that it is not what the tape says that matters, but in what form: their tapes hold every
symbol, or the answer, and nothing is learned."""
CURRICULUM = f"""A string of variable length is easier to begin with: short ones can be learned by heart, and what is
learned there carries some way. So models without a tape leave chance here, a Transformer of three blocks most of all,
and lose it again towards the longest. Accuracy (%) by length at up to {LENGTHS[-1]}, 1,000 strings of each range, mean
of the seeds:"""
LONGER = """Strings longer than any in training: trained on lengths 1 to 16, with room for 32, and tested on 1,000
strings of each range; `blind` as above. Accuracy (%), mean of the seeds:"""


def write(results: list[Result], out: Path) -> tuple[str, list[Verdict]]:
    """Return the text and the verdicts; write the charts."""
    found = gather(results)
    lengths = sorted({int(group.partition("-")[2]) for group, _ in found if group.startswith(("fixed", "variable"))})
    parts = ["## Parity\n", MEANING, ""]
    for kind in ("fixed", "variable"):
        if any(group.startswith(kind) for group, _ in found):
            parts += [f"Accuracy (%) on 6,400 test strings, {kind} length:\n", _by_length(found, kind, lengths), ""]
            parts += [_chart(found, kind, lengths, out), ""]
    parts += _by_range(found, f"variable-{LENGTHS[-1]}", CURRICULUM)
    parts += ["### Why it works\n", MECHANISM, "", _mechanism(found), ""]
    is_explained = {"blind", "no-merge", "no-merge-blind", "K=1"} <= {variant for _, variant in found}
    parts += ["### One thing changed\n", CHANGES, "", _changes(found), "", *([CARRIER, ""] if is_explained else [])]
    parts += ["### Where it ends\n", *_by_range(found, "short", LONGER), _cap_text(found, out), ""]
    return "\n".join(parts), judged(found)


def _by_length(found: Gathered, kind: str, lengths: list[int]) -> str:
    shown = [length for length in lengths if any(group == f"{kind}-{length}" for group, _ in found)]
    rows = []
    for name in MODELS:
        several = [found.get((f"{kind}-{length}", name)) for length in shown]
        if not any(several):
            continue
        seeds = "/".join(str(len(one.results)) if one else "0" for one in several)
        rows.append([name, *map(percent, several), seeds])
    return table(["model", *(f"length {length}" for length in shown), "seeds"], rows)


def _chart(found: Gathered, kind: str, lengths: list[int], out: Path) -> str:
    series = {
        name: {length: found[f"{kind}-{length}", name] for length in lengths if (f"{kind}-{length}", name) in found}
        for name in MODELS
        if any((f"{kind}-{length}", name) in found for length in lengths)
    }
    charts.accuracy_by_length(series, f"Parity, {kind} length", out / f"parity-{kind}.png")
    longest = max((length for length in lengths if (f"{kind}-{length}", REFERENCE) in found), default=None)
    text = f"![Accuracy by length](parity-{kind}.png)"
    if longest is None:
        return text
    several = [found[f"{kind}-{length}", REFERENCE] for length in lengths if (f"{kind}-{length}", REFERENCE) in found]
    labelled = [Seeds(one.group, one.group, one.results) for one in several]
    charts.learning_curves(labelled, f"AdaTape learning, {kind} length", out / f"parity-{kind}-learning.png")
    return f"{text} ![Learning curves](parity-{kind}-learning.png)"


def _mechanism(found: Gathered) -> str:
    rows = []
    for (group, variant), seeds in found.items():
        if variant in ("adatape", "adatape-deep") and group.startswith("fixed"):
            rows += [_mechanism_row(group, result) for result in seeds.results]
    rows.sort(key=lambda row: (row[0], int(row[1]), row[2]))
    head = ["model", "length", "seed", "accuracy", "all read", "first read", "weight of the first in a mixed token"]
    exists, is_odd = "one that holds it exists exactly when its count is odd", "their number is odd exactly then"
    return table([*head, f"{exists}: {' / '.join(SYMBOLS)}", is_odd], rows)


def _mechanism_row(group: str, result: Result) -> list[str]:
    found = result["figures"]["mechanism"]
    first = max(found["first_read"], key=lambda name: found["first_read"][name])
    weight = found["mixed_weight"]
    return [
        result["variant"],
        group.partition("-")[2],
        str(result["seed"]),
        _share(accuracy(result)),
        _share(found["all_read"]),
        f"{first} in {_share(found['first_read'][first])}",
        "none" if weight is None else f"{weight:.2f}",
        " / ".join(_share(found["exists_when_odd"][name]) for name in SYMBOLS),
        " / ".join(_share(found["odd_when_odd"][name]) for name in SYMBOLS),
    ]


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _changes(found: Gathered) -> str:
    reference = found.get(("fixed-16", REFERENCE))
    rows = [["as it is", percent(reference), *_reads(reference)]]
    for (group, variant), seeds in found.items():
        if group.startswith(("ablation", "limits")):
            rows.append([variant, percent(seeds), *_reads(seeds)])
    head = ["changed", "accuracy (%)", "mixed tokens", "weight of the first", "share read", "best guess from the tape"]
    return table([*head, "from its length", "with another's main token", "seeds"], rows)


def _reads(seeds: Seeds | None) -> list[str]:
    """Return what the first seed's tape is like, and how many seeds there are."""
    if seeds is None or "mechanism" not in seeds.results[0]["figures"]:
        return ["", "", "", "", "", "", str(len(seeds.results)) if seeds else "0"]
    found = seeds.results[0]["figures"]["mechanism"]
    weight = "" if found["mixed_weight"] is None else f"{found['mixed_weight']:.2f}"
    known = ["", "", ""]
    if "tells" in found:
        known = [_share(found["tells"][name]) for name in ("tape", "length")] + [
            _share(found["with_another_main_token"])
        ]
    return [f"{found['mixed_mean']:.2f}", weight, _share(found["read_share"]), *known, str(len(seeds.results))]


def _by_range(found: Gathered, group: str, text: str) -> list[str]:
    """Return a table of accuracies by range of length, below the text; nothing where nothing ran."""
    several = {variant: seeds for (other, variant), seeds in found.items() if other.startswith(group)}
    if not several:
        return []
    ranges = list(next(iter(several.values())).results[0]["figures"]["by_length"])
    rows = []
    for name, seeds in several.items():
        cells = [f"{100 * seeds.mean(partial(_in_range, part)):.1f}" for part in ranges]
        rows.append([name, *cells, str(len(seeds.results))])
    return [text, "", table(["model", *(f"length {part}" for part in ranges), "seeds"], rows), ""]


def _in_range(part: str, result: Result) -> float:
    return float(result["figures"]["by_length"][part])


def _cap_text(found: Gathered, out: Path) -> str:
    several = {
        group: seeds for (group, variant), seeds in found.items() if variant == REFERENCE and group.startswith("fixed")
    }
    several = dict(sorted(several.items(), key=lambda item: int(item[0].partition("-")[2])))
    if not several:
        return ""
    charts.accuracy_by_cap(several, out / "parity-caps.png")
    lines = [
        f"length {group.partition('-')[2]}: "
        + ", ".join(f"{cap}: {100 * value:.1f}" for cap, value in seeds.results[0]["figures"]["by_cap"].items())
        for group, seeds in several.items()
    ]
    text = "Parity models are trained at full tape only. Accuracy (%) of the first seed with a capped tape:\n\n- "
    return text + "\n- ".join(lines) + "\n\n![Accuracy by cap](parity-caps.png)"
