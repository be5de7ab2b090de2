"""What the results say of each claim about parity."""

from adatape.study.parity import DEEP, DEPTH_ADAPTIVE, LENGTHS, ROOM
from adatape.study.tables import NOT_RUN, Result
from adatape.study.verdicts import Gathered, Verdict, at_chance, at_least, compare, numbered

REFERENCE = "adatape-deep"
MODELS = (REFERENCE, "transformer-deep", "adatape", "transformer", "transformer-flat", "ut-act", "pondernet")
VARIABLE_MODELS = (*DEEP[1:], *DEPTH_ADAPTIVE)
LONG = (64, 128)


def judged(found: Gathered) -> list[Verdict]:
    """Return the verdicts on the authors' claims, and on the questions they leave open."""
    return [*numbered("1", *_claims(found)), *_why(found)]


def _claims(found: Gathered) -> list[Verdict]:
    fixed, shallow = (
        {f"length {length}": found.get((f"fixed-{length}", name)) for length in LENGTHS}
        for name in (REFERENCE, "adatape")
    )
    variable = {f"length {length}": found.get((f"variable-{length}", REFERENCE)) for length in LENGTHS}
    long = {f"length {length}": found.get((f"fixed-{length}", REFERENCE)) for length in LONG}
    verdicts = [
        at_least("AdaTape learns parity: at least 99 % at lengths 8 to 40", 0.99, fixed),
        at_least("The same with one block after the tape instead of two", 0.99, shallow),
        at_least("The same, with two, for strings of variable length up to 8 to 40", 0.99, variable),
        at_least("At least 95 % at lengths 64 and 128", 0.95, long),
    ]
    tapeless = tuple(name for name in MODELS if not name.startswith("adatape"))
    for kind, names, where in (("fixed", tapeless, "length"), ("variable", VARIABLE_MODELS, "variable length up to")):
        for length in LENGTHS:
            several = {name: found.get((f"{kind}-{length}", name)) for name in names}
            verdicts.append(at_chance(f"Models without a tape stay at chance at {where} {length}", several))
    longer = {"transformer, 5 times the steps": found.get(("limits-16", "transformer-longer"))}
    return [*verdicts, at_chance("Five times the training does not help the Transformer at length 16", longer)]


def _why(found: Gathered) -> list[Verdict]:
    reference, blind = found.get(("fixed-16", REFERENCE)), found.get(("ablation-16", "blind"))
    longest = LENGTHS[-1]
    tape, none = (found.get((f"variable-{longest}", name)) for name in (REFERENCE, VARIABLE_MODELS[0]))
    verdicts = [compare(f"At variable length up to {longest} AdaTape is better than a Transformer as deep", tape, none)]
    changed = {
        "Reading in pairs is what does it: K = 2 beats K = 1 at length 16": "K=1",
        "Reading what is alike is what does it: better than random entries": "random-entries",
        "An entry must not be read twice: better than without the used mask": "no-used-mask",
        "Merging a pair is needed where the main token sees the string": "no-merge",
    }
    verdicts += [compare(claim, reference, found.get(("ablation-16", variant))) for claim, variant in changed.items()]
    only_tape = "Merging a pair is needed where only the tape does"
    verdicts.append(compare(only_tape, blind, found.get(("ablation-16", "no-merge-blind"))))
    short = found.get(("limits-16", "half-the-tape"))
    verdicts.append(compare("All symbols must be within reach: half the tape is worse", reference, short))
    unseen = {f"trained to {ROOM // 2}": found.get((f"short-{ROOM}", REFERENCE))}
    claim = "It holds for strings of up to twice the length of any in training: at least 95 %"
    verdicts.append(at_least(claim, 0.95, unseen, _on_unseen_lengths))
    return [verdict for verdict in verdicts if verdict.verdict != NOT_RUN]


def _on_unseen_lengths(result: Result) -> float:
    """Return the lower accuracy of the two ranges of length beyond training."""
    return float(min(list(result["figures"]["by_length"].values())[2:]))
