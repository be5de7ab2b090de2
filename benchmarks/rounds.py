"""`python -m benchmarks.rounds RUN --data FILE.npz --rival RUN ...`: a rounds model beside plain ones, on one core.

Graphs run on onnxruntime with one thread, in batches of 16, all contestants in turn and again. A rounds model runs as a
server would run it: everyone's glance, then the rounds of those that go on, joined into full batches.

Shape legend: N images, B batch, P prefixes, C classes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from adatape.data import Split, open_source
from adatape.rounds.checkpoint import load_run
from adatape.rounds.evaluate import measured
from adatape.rounds.flops import prefix_flops
from adatape.rounds.model import Classifier, RoundsModel
from adatape.rounds.plain import PlainNet
from adatape.rounds.stopping import Measured, fixed_mflops
from adatape.rounds.trainer import predict
from adatape.rounds.worth import cross_fit
from benchmarks.command import parser
from benchmarks.cores import pin_to
from benchmarks.report import Aim, Report, finish
from export.rounds import plain_graph, plain_mflops, round_graphs

BATCH, ROUNDS, QUICK_IMAGES = 16, 5, 512
SHARES = (0.1, 0.25, 0.5, 0.75)
"""Mean costs that prices are chosen for, as shares of the way from the glance to full tape."""
LEAST_SAVING = 1.4
Array = NDArray[Any]
Ask = Callable[[Array], Array]
"""Answers images: which prefix each stopped at, and its class, [N,2]."""


class Session:
    """One graph, called with what it takes of the feeds."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]
        self.outputs = [node.name for node in self._session.get_outputs()]

    def __call__(self, feeds: dict[str, Array]) -> dict[str, Array]:
        values = self._session.run(self.outputs, {name: feeds[name] for name in self._inputs})
        return dict(zip(self.outputs, values, strict=True))


class Ladder:
    """Rounds that are run one after the other; each image stops where the price says."""

    def __init__(self, rounds: Sequence[Session], mflops_P: Sequence[float]) -> None:
        self._rounds = rounds
        self._mflops_P = np.asarray(mflops_P, np.float32)

    def answer(self, image_NHWC: Array, price: float, last: int) -> Array:
        """Return the prefix and the class of each image; nobody goes beyond prefix `last`."""
        answer_N2 = np.zeros((len(image_NHWC), 2), np.int64)
        waiting: list[tuple[Array, dict[str, Array]]] = [
            (np.arange(start, min(start + BATCH, len(image_NHWC))), {"image": image_NHWC[start : start + BATCH]})
            for start in range(0, len(image_NHWC), BATCH)
        ]
        for number, session in enumerate(self._rounds[: last + 1]):
            going: list[tuple[Array, dict[str, Array]]] = []
            for index_B, feeds in _full(waiting):
                told = session(feeds)
                answer_N2[index_B] = np.stack([np.full(len(index_B), number), told["logits"].argmax(1)], axis=1)
                if number < last:
                    goes_on_B = self._goes_on(told["accuracy_at"], number, price, last)
                    state = {**feeds, **told, **({"past": told["present"]} if "present" in told else {})}
                    going.append((index_B[goes_on_B], {name: value[goes_on_B] for name, value in state.items()}))
            waiting = going
        return answer_N2

    def _goes_on(self, accuracy_BP: Array, number: int, price: float, last: int) -> Array:
        gain_BP = 100 * (accuracy_BP[:, 1 : last - number + 1] - accuracy_BP[:, :1])
        cost_P = self._mflops_P[number + 1 : last + 1] - self._mflops_P[number]
        goes_on_B: Array = (gain_BP > price * cost_P / 100).any(1)
        return goes_on_B


def _full(waiting: list[tuple[Array, dict[str, Array]]]) -> list[tuple[Array, dict[str, Array]]]:
    """Join what waits into batches that are full but for the last."""
    waiting = [each for each in waiting if len(each[0])]
    if not waiting or all(len(index_B) == BATCH for index_B, _ in waiting[:-1]):
        return waiting
    index_N = np.concatenate([index_B for index_B, _ in waiting])
    feeds = {name: np.concatenate([part[name] for _, part in waiting]) for name in waiting[0][1]}
    starts = range(0, len(index_N), BATCH)
    return [
        (index_N[at : at + BATCH], {name: value[at : at + BATCH] for name, value in feeds.items()}) for at in starts
    ]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to answer; `kind` groups the points of one curve."""

    kind: str
    name: str
    mean_mflops: float
    accuracy: float
    ask: Ask


def rounds_contestants(model: RoundsModel, chosen_on: Measured, split: Split, kind: str) -> list[Contestant]:
    """Return a model at each fixed prefix, in one pass, and stopped at several prices."""
    graphs = round_graphs(model)
    mflops_P = [flops / 1e6 for flops in prefix_flops(model.config)]
    ladder = Ladder([Session(graphs.glance), *map(Session, graphs.rounds)], mflops_P)
    one_pass = Session(graphs.one_pass)
    found = [
        _judged(kind, f"cap {cap}", lambda x, last=last: ladder.answer(x, -np.inf, last), mflops_P, split)
        for last, cap in enumerate(model.config.prefixes)
    ]

    def whole(x_NHWC: Array) -> Array:
        batches = (x_NHWC[start : start + BATCH] for start in range(0, len(x_NHWC), BATCH))
        labels_N = np.concatenate([one_pass({"image": image})["logits"].argmax(1) for image in batches])
        return np.stack([np.full(len(x_NHWC), len(mflops_P) - 1), labels_N], axis=1)

    found.append(_judged(f"{kind}, one pass", "full tape", whole, mflops_P, split))
    return found + _stopped(f"{kind}, by price", ladder, chosen_on, mflops_P, split)


def plain_contestants(
    models: dict[str, PlainNet], chosen: dict[str, Array], data_y: Array, split: Split
) -> list[Contestant]:
    """Return each rival, and the ladder of the two cheapest under the same rule."""
    sessions = {name: Session(plain_graph(model)) for name, model in models.items()}
    costs = {name: plain_mflops(model.config) for name, model in models.items()}
    found = [
        _judged("plain", name, lambda x, rungs=[session]: Ladder(rungs, [0.0]).answer(x, 0.0, 0), [costs[name]], split)
        for name, session in sessions.items()
    ]
    pair = sorted((name for name in models if models[name].config.kind == "resnet"), key=costs.__getitem__)[:2]
    if len(pair) < 2:
        return found
    logits_NPC = torch.from_numpy(np.stack([chosen[name] for name in pair], axis=1))
    fitted = cross_fit(logits_NPC, torch.from_numpy(data_y))
    mflops_P = [costs[pair[0]], costs[pair[0]] + costs[pair[1]]]
    right_NP = (logits_NPC.argmax(-1).numpy() == data_y[:, None]).astype(bool)
    known = Measured((0, 1), tuple(mflops_P), right_NP, fitted.estimates, np.zeros(len(data_y), np.float32))
    rungs = [Session(plain_graph(models[name], fitted.head, number)) for number, name in enumerate(pair)]
    return found + _stopped("ladder of " + " and ".join(pair), Ladder(rungs, mflops_P), known, mflops_P, split)


def _stopped(
    kind: str, ladder: Ladder, chosen_on: Measured, mflops_P: Sequence[float], split: Split
) -> list[Contestant]:
    """Return a ladder at prices that are chosen on other images."""
    budgets = [mflops_P[0] + share * (mflops_P[-1] - mflops_P[0]) for share in SHARES]
    prices = [chosen_on.default_price(), *map(chosen_on.price_of, budgets)]
    last = len(mflops_P) - 1
    return [
        _judged(kind, f"price {price:.3g}", lambda x, price=price: ladder.answer(x, price, last), mflops_P, split)
        for price in dict.fromkeys(prices)
    ]


def _judged(kind: str, name: str, ask: Ask, mflops_P: Sequence[float], split: Split) -> Contestant:
    answer_N2 = ask(split.x)
    accuracy = float((answer_N2[:, 1] == split.y).mean())
    return Contestant(kind, name, float(np.asarray(mflops_P)[answer_N2[:, 0]].mean()), accuracy, ask)


def time_us(several: Sequence[Contestant], image_NHWC: Array, rounds: int) -> list[float]:
    """Return each contestant's median time an image, all of them in turn in each round."""
    times: list[list[float]] = [[] for _ in several]
    for _ in range(rounds):
        for one, own in zip(several, times, strict=True):
            start_s = time.process_time()
            one.ask(image_NHWC)
            own.append(1e6 * (time.process_time() - start_s) / len(image_NHWC))
    return [median(own) for own in times]


def savings(several: Sequence[Contestant], times: Sequence[float], kind: str) -> list[float]:
    """Return how much less time each price takes than the mixture of fixed prefixes with the same accuracy."""
    fixed = [(time, one.accuracy) for one, time in zip(several, times, strict=True) if one.kind == kind]
    by_price = [
        (time, one.accuracy) for one, time in zip(several, times, strict=True) if one.kind == f"{kind}, by price"
    ]
    most = max(time for time, _ in fixed)
    costs, accuracies = zip(*fixed, strict=True)
    return [min(most, fixed_mflops(costs, accuracies, accuracy)) / time for time, accuracy in by_price]


def measure(options: argparse.Namespace) -> Report:
    """Measure a run and its rivals."""
    torch.set_num_threads(1)
    pin_to(options.core)
    model, run = load_run(options.run)
    if not isinstance(model, RoundsModel):
        sys.exit(f"benchmarks.rounds: {options.run}; got a model that reads once; expected one with rounds")
    data = open_source(
        options.data, image_size=model.config.image_size, validation_share=float(run.recipe["validation_share"])
    )
    whole, validation = data.split("test"), data.validation
    split = Split(whole.x[:QUICK_IMAGES], whole.y[:QUICK_IMAGES]) if options.quick else whole
    logits_NPC = predict(model, validation, "cpu")
    estimates = cross_fit(logits_NPC, torch.from_numpy(validation.y)).estimates
    several = rounds_contestants(model, measured(model, logits_NPC, validation.y, estimates), split, "rounds")
    rivals: dict[str, Classifier] = {folder.name: load_run(folder)[0] for folder in options.rival}
    plain = {name: rival for name, rival in rivals.items() if isinstance(rival, PlainNet)}
    chosen = {name: predict(rival, validation, "cpu")[:, 0].numpy() for name, rival in plain.items()}
    several += plain_contestants(plain, chosen, validation.y, split)
    times = time_us(several, split.x[: QUICK_IMAGES if options.quick else 2048], 2 if options.quick else ROUNDS)
    rows = [
        {
            "kind": one.kind,
            "name": one.name,
            "accuracy %": round(100 * one.accuracy, 2),
            "mean MFLOPs": round(one.mean_mflops, 2),
            "us an image": round(time, 1),
        }
        for one, time in zip(several, times, strict=True)
    ]
    aims = [
        Aim("time of fixed prefixes ÷ stopped by price, best", max(savings(several, times, "rounds")), LEAST_SAVING)
    ]
    notes = [
        f"{len(split)} test images of {data.name}; times are of {BATCH} images at once, processor time, one thread."
    ]
    return Report("rounds", "A rounds model beside plain ones, on one core", rows, aims, notes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write the report."""
    options = parser("rounds", "Measure a rounds model beside plain ones on one core.")
    options.add_argument("run", type=Path, help="run of a rounds model, for example checkpoints/cifar10")
    options.add_argument("--data", required=True, help="as for training")
    options.add_argument("--rival", type=Path, nargs="*", default=[], help="runs of plain models to compare with")
    options.add_argument("--core", type=int, default=0, help="core to run on (default: %(default)s)")
    parsed = options.parse_args(arguments)
    sys.exit(finish(measure(parsed), json_path=parsed.json, is_kept=parsed.keep))


if __name__ == "__main__":
    main()
