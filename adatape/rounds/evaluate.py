"""Judge a rounds model: its prefixes, what stopping by price gains, whether compute goes where it is needed.

Shape legend: N images, P prefixes, M cells of the bank, C classes.
Units: accuracies from 0 to 1, points are hundredths of them; MFLOPs.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adatape.curve import wilson_interval
from adatape.data import Split
from adatape.rounds.flops import prefix_flops
from adatape.rounds.model import RoundsModel, to_pixels
from adatape.rounds.stopping import FULL_TOLERANCE, Estimates, Measured, fixed_accuracy, fixed_mflops, stops
from adatape.rounds.worth import estimate, reliability

NUM_RESAMPLES, NUM_RANDOM_ORDERS = 2000, 3
BUDGETS = (0.25, 0.5, 0.75)
"""Mean costs to compare at, as shares of the way from the first prefix to full tape."""
Order = Callable[[Tensor], Tensor]


@torch.no_grad()
def answer(model: RoundsModel, split: Split, order: Order | None = None, batch_size: int = 500) -> Tensor:
    """Return logits [N,P,C], reading in the model's order, or in the one that `order` makes of its scores."""
    model.eval()
    parts = []
    for pixels in torch.split(torch.from_numpy(split.x), batch_size):
        x_BCHW = to_pixels(pixels)
        glance = model.glance(x_BCHW)
        chosen_BM = glance.order_BM if order is None else order(glance.score_BM)
        parts.append(model.answers(x_BCHW, glance, chosen_BM).logits_BPC)
    return torch.cat(parts)


def measured(
    model: RoundsModel, logits_NPC: Tensor, labels: NDArray[np.int64], estimates: Estimates | None = None
) -> Measured:
    """Gather what stopping is judged by; `estimates` stand in for the model's own where those would be too sure."""
    labels_N = torch.from_numpy(labels)
    loss_N = torch.nn.functional.cross_entropy(logits_NPC[:, 0], labels_N, reduction="none")
    return Measured(
        prefixes=model.config.prefixes,
        mflops_P=tuple(flops / 1e6 for flops in prefix_flops(model.config)),
        right_NP=(logits_NPC.argmax(-1) == labels_N[:, None]).numpy(),
        estimates=estimate(model.worth, logits_NPC) if estimates is None else estimates,
        loss_N=loss_N.numpy(),
    )


def judge(
    model: RoundsModel, chosen_on: Measured, judged: Measured, split: Split, default_price: float
) -> dict[str, object]:
    """Return every figure of `judged`; prices are chosen on other images, so nothing is tuned to what is reported."""
    random = np.random.default_rng(0)
    reliable = {
        cap: reliability(judged.estimates[number][:, 0], judged.right_NP[:, number])
        for number, cap in enumerate(judged.prefixes)
    }
    later = [
        reliability(estimates[:, ahead], judged.right_NP[:, number + ahead]).error
        for number, estimates in enumerate(judged.estimates)
        for ahead in range(1, estimates.shape[1])
    ]
    stopped_N = stops(judged.estimates, judged.mflops_P, default_price)
    ends = judged.mflops_P[0], judged.mflops_P[-1]
    budgets = [ends[0] + share * (ends[1] - ends[0]) for share in BUDGETS]
    prices = [default_price, *(chosen_on.price_of(budget) for budget in budgets)]
    return {
        "num_samples": len(judged.right_NP),
        "prefixes": _prefixes(judged),
        "default_price": default_price,
        "adaptive": [_adaptive(judged, price, random) for price in prices],
        "full_over_adaptive": _full_over_adaptive(chosen_on, judged),
        "full_over_cap0": ends[1] / ends[0],
        "steps": _steps(judged, random),
        **_needs(judged, stopped_N),
        "order": _orders(model, split),
        "calibration_error": max(one.error for one in reliable.values()),
        "calibration_error_ahead": max(later),
        "reliability": {
            str(cap): {"estimated": one.estimated, "observed": one.observed} for cap, one in reliable.items()
        },
    }


def _prefixes(judged: Measured) -> list[dict[str, float]]:
    rows = []
    for cap, mflops, right_N in zip(judged.prefixes, judged.mflops_P, judged.right_NP.T, strict=True):
        low, high = wilson_interval(int(right_N.sum()), len(right_N))
        rows.append({"cap": cap, "accuracy": float(right_N.mean()), "low": low, "high": high, "mflops": mflops})
    return rows


def _adaptive(judged: Measured, price: float, random: np.random.Generator) -> dict[str, float]:
    """Compare one price with the best mixture of fixed prefixes at the same mean cost; paired bootstrap."""
    stopped_N = stops(judged.estimates, judged.mflops_P, price)
    outcome = judged.outcome(price, stopped_N)
    right_N = np.take_along_axis(judged.right_NP, stopped_N[:, None], 1)[:, 0]
    cost_N = np.asarray(judged.mflops_P)[stopped_N]

    def gain(index: NDArray[np.int64]) -> float:
        fixed = fixed_accuracy(judged.mflops_P, judged.right_NP[index].mean(0), float(cost_N[index].mean()))
        return 100 * (float(right_N[index].mean()) - fixed)

    gains = [gain(random.integers(len(right_N), size=len(right_N))) for _ in range(NUM_RESAMPLES)]
    fixed = fixed_mflops(judged.mflops_P, judged.right_NP.mean(0), outcome.accuracy)
    return {
        "price": price,
        "accuracy": outcome.accuracy,
        "mean_mflops": outcome.mean_mflops,
        "mean_tape": outcome.mean_tape,
        "gain_points": gain(np.arange(len(right_N))),
        "gain_low": float(np.quantile(gains, 0.025)),
        "saving": min(fixed, judged.mflops_P[-1]) / outcome.mean_mflops,
    }


def _full_over_adaptive(chosen_on: Measured, judged: Measured) -> float:
    """How much cheaper than full tape the largest price is that stays within `FULL_TOLERANCE` of it.

    The price is chosen on other images; should it not hold on these, the next lower that does counts.
    """
    wanted = float(judged.right_NP[:, -1].mean()) - FULL_TOLERANCE
    price = chosen_on.default_price()
    while price > 1e-3 and judged.at_price(price).accuracy < wanted:
        price *= 0.97
    return judged.mflops_P[-1] / judged.at_price(price if price > 1e-3 else 0.0).mean_mflops


def _steps(judged: Measured, random: np.random.Generator) -> list[dict[str, float]]:
    """Each prefix over the one before, in points; the low end of a paired 95 % interval."""
    rows = []
    for number in range(1, len(judged.prefixes)):
        better_N = judged.right_NP[:, number].astype(float) - judged.right_NP[:, number - 1]
        index = random.integers(len(better_N), size=(NUM_RESAMPLES, len(better_N)))
        low = float(np.quantile(better_N[index].mean(1), 0.025))
        ends = {"from": judged.prefixes[number - 1], "to": judged.prefixes[number]}
        rows.append({**ends, "points": 100 * float(better_N.mean()), "low": 100 * low})
    return rows


def _needs(judged: Measured, stopped_N: NDArray[np.int64]) -> dict[str, float | list[float]]:
    """Say whether hard images, by their loss at the first prefix, read more."""
    tape_N = np.asarray(judged.prefixes)[stopped_N]
    fifths = np.array_split(np.argsort(judged.loss_N, kind="stable"), 5)
    means = [float(tape_N[fifth].mean()) for fifth in fifths]
    varies = tape_N.std() > 0
    return {
        "tape_by_fifth": means,
        "hard_over_easy": means[-1] / max(means[0], 1 / len(fifths[0])),
        "r_tape_loss": float(np.corrcoef(tape_N, judged.loss_N)[0, 1]) if varies else 0.0,
    }


def _orders(model: RoundsModel, split: Split) -> dict[str, dict[str, float]]:
    """Accuracy at each prefix that leaves something unread, by how cells are chosen."""
    generator = torch.Generator().manual_seed(0)
    labels_N = torch.from_numpy(split.y)

    def accuracy(order: Order | None) -> Tensor:
        return (answer(model, split, order).argmax(-1) == labels_N[:, None]).float().mean(0)

    def drawn(scores_BM: Tensor) -> Tensor:
        return torch.rand(scores_BM.shape, generator=generator).argsort(1)

    chosen_P, central_P = accuracy(None), accuracy(centre_out(model.config.grid))
    random_P = torch.stack([accuracy(drawn) for _ in range(NUM_RANDOM_ORDERS)]).mean(0)
    return {
        str(cap): {"chosen": float(chosen_P[n]), "random": float(random_P[n]), "centre_out": float(central_P[n])}
        for n, cap in enumerate(model.config.prefixes)
        if 0 < cap < model.config.num_cells
    }


def centre_out(grid: int) -> Order:
    """Return the fixed order from the middle of the image outwards."""
    place = torch.arange(grid) - (grid - 1) / 2
    distance_M = (place[:, None].square() + place[None].square()).flatten()
    order_M = distance_M.argsort(stable=True)
    return lambda scores_BM: order_M.expand(len(scores_BM), -1)
