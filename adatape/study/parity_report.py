"""The report's part on parity."""

from pathlib import Path

from adatape.study import charts
from adatape.study.mechanism import SYMBOLS
from adatape.study.tables import NOT_RUN, Result, Seeds, accuracy, gather, percent, table
from adatape.study.verdicts import Gathered, Verdict, at_chance, at_least, compare

REFERENCE = "adatape-deep"
MODELS = (REFERENCE, "transformer-deep", "adatape", "transformer", "transformer-flat", "ut-act", "pondernet")
MEANING = """`adatape` reads the symbols in pairs (K = 2) from an input-driven bank; its main sequence is the whole
string as one token. `transformer` has a token a symbol, `transformer-flat` the same one token as AdaTape and no
tape. `ut-act` is a Universal Transformer with adaptive computation time, `pondernet` a PonderNet; both share a
block, have a token a symbol and pay nothing or little for more steps. All have width 64, two blocks, the same
recipe and the same strings; the `deep` ones have three blocks and half as many steps again. At length 8 there are
6,561 strings, and training meets each of them about twenty times: what is learned there may be learned by heart."""
MECHANISM = """Equal symbols are read together, for a query that has just read a symbol looks most like it. So a symbol
whose count is even ends in a pure pair, and one whose count is odd leaves one over, which is merged with another
symbol into a *mixed* token. Whatever the order of reading, once all is read the number of mixed tokens that hold a
symbol is odd exactly when its count is; for the symbol that is read first, one exists exactly then. The trunk has only
to see whether there is such a token; no counting is left."""


def write(results: list[Result], out: Path) -> tuple[str, list[Verdict]]:
    """Return the text and the verdicts; write the charts."""
    found = gather(results)
    lengths = sorted({int(group.partition("-")[2]) for group, _ in found if group.startswith(("fixed", "variable"))})
    parts = ["## Parity\n", MEANING, ""]
    for kind in ("fixed", "variable"):
        if any(group.startswith(kind) for group, _ in found):
            parts += [f"Accuracy (%) on 6,400 test strings, {kind} length:\n", _by_length(found, kind, lengths), ""]
            parts += [_chart(found, kind, lengths, out), ""]
    parts += ["### Why it works\n", MECHANISM, "", _mechanism(found), ""]
    parts += ["### One thing changed\n", _changes(found), "", _cap_text(found, out), ""]
    return "\n".join(parts), _verdicts(found)


def _by_length(found: Gathered, kind: str, lengths: list[int]) -> str:
    shown = [length for length in lengths if any(group == f"{kind}-{length}" for group, _ in found)]
    rows = []
    for name in MODELS:
        several = [found.get((f"{kind}-{length}", name)) for length in shown]
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
    return table([*head, "a mixed token holds it ⇔ odd: " + " / ".join(SYMBOLS), "their number is odd ⇔ odd"], rows)


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
    return table(["length 16", "accuracy (%)", "mixed tokens", "weight", "share read", "seeds"], rows)


def _reads(seeds: Seeds | None) -> list[str]:
    if seeds is None or "mechanism" not in seeds.results[0]["figures"]:
        return ["", "", "", str(len(seeds.results)) if seeds else "0"]
    found = seeds.results[0]["figures"]["mechanism"]
    weight = "" if found["mixed_weight"] is None else f"{found['mixed_weight']:.2f}"
    return [f"{found['mixed_mean']:.2f}", weight, _share(found["read_share"]), str(len(seeds.results))]


def _cap_text(found: Gathered, out: Path) -> str:
    several = {
        group: seeds for (group, variant), seeds in found.items() if variant == REFERENCE and group.startswith("fixed")
    }
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


def _verdicts(found: Gathered) -> list[Verdict]:
    fixed, shallow = (
        {f"length {n}": found.get((f"fixed-{n}", name)) for n in (8, 16, 32, 40)} for name in (REFERENCE, "adatape")
    )
    variable = {f"length {n}": found.get((f"variable-{n}", REFERENCE)) for n in (8, 16, 32, 40)}
    long = {f"length {n}": found.get((f"fixed-{n}", REFERENCE)) for n in (64, 128)}
    verdicts = [
        at_least("AdaTape learns parity: at least 99 % at lengths 8 to 40", 0.99, fixed),
        at_least("The same with one block after the tape instead of two", 0.99, shallow),
        at_least("The same, with two, for strings of variable length", 0.99, variable),
        at_least("At least 95 % at lengths 64 and 128", 0.95, long),
    ]
    for length in (8, 16, 32, 40):
        several = {name: found.get((f"fixed-{length}", name)) for name in MODELS if not name.startswith("adatape")}
        verdicts.append(at_chance(f"Models without a tape stay at chance at length {length}", several))
    reference, one = found.get(("fixed-16", REFERENCE)), found.get(("ablation-16", "K=1"))
    longer = {"transformer, 5 times the steps": found.get(("limits-16", "transformer-longer"))}
    verdicts.append(at_chance("Five times the training does not help the Transformer at length 16", longer))
    verdicts.append(compare("Reading in pairs is what does it: K = 2 beats K = 1 at length 16", reference, one))
    apart = found.get(("ablation-16", "no-merge"))
    verdicts.append(
        compare("Merging a pair into one token is needed: better than keeping its best entry", reference, apart)
    )
    short = found.get(("limits-16", "half-the-tape"))
    verdicts.append(compare("All symbols must be within reach: half the tape is worse", reference, short))
    return [verdict for verdict in verdicts if verdict.verdict != NOT_RUN or verdict.claim.startswith(("A", "The"))]
