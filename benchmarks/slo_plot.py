"""A plot of accuracy and p99 over offered load, for fixed and adaptive tape."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.policy_load import PolicyResult


@dataclass(frozen=True, slots=True)
class Point:
    """What a policy did at a multiple of full-tape capacity."""

    load: float
    result: PolicyResult
    policy: str


def draw(points: list[Point], capacity: float, slo_ms: float, path: Path) -> None:
    """Write the picture as an SVG; say so where matplotlib, which it needs, is missing."""
    try:
        import matplotlib as mpl
    except ImportError:
        print(f"{path.name}; not drawn: matplotlib is not installed")
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "slo", "svg.fonttype": "none", "font.size": 9})
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 4.6), sharex=True, layout="constrained")
    for policy, colour in zip(dict.fromkeys(point.policy for point in points), ("#888888", "#0b6e99"), strict=False):
        mine = [point for point in points if point.policy == policy]
        x = [point.load for point in mine]
        top.plot(x, [100 * point.result.accuracy for point in mine], "o-", color=colour, label=policy)
        bottom.plot(x, [point.result.p99_ms for point in mine], "o-", color=colour, label=policy)
    bottom.axhline(slo_ms, color="#c0392b", linestyle="--", linewidth=1, label=f"SLO {slo_ms:g} ms")
    bottom.set_yscale("log")
    top.set_ylabel("accuracy of answers in time, %")
    bottom.set_ylabel("p99, ms")
    bottom.set_xlabel(f"offered load, multiples of full-tape capacity ({capacity:.0f} images/s)")
    top.legend(frameon=False)
    bottom.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
