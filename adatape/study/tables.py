"""Results of several seeds, gathered and laid out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]
NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Seeds:
    """All seeds of one variant."""

    group: str
    variant: str
    results: tuple[Result, ...]

    def values(self, figure: Callable[[Result], float]) -> list[float]:
        return [figure(result) for result in self.results]

    def mean(self, figure: Callable[[Result], float]) -> float:
        return sum(self.values(figure)) / len(self.results)

    @property
    def accuracy(self) -> float:
        return self.mean(accuracy)

    @property
    def num_samples(self) -> int:
        """Test samples judged, over all seeds."""
        return sum(result["figures"]["num_samples"] for result in self.results)


def accuracy(result: Result) -> float:
    """Return the share of test samples that a run's model has right."""
    return float(result["figures"]["accuracy"])


def gather(results: Iterable[Result]) -> dict[tuple[str, str], Seeds]:
    """Return the seeds of each (group, variant), in the order of their first file."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result["group"], result["variant"]), []).append(result)
    return {key: Seeds(*key, tuple(several)) for key, several in found.items()}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(seeds: Seeds | None) -> str:
    """Return the mean accuracy in percent, with the lowest and the highest seed where there are several."""
    if seeds is None:
        return NOT_RUN
    values = [100 * value for value in seeds.values(accuracy)]
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.1f}{spread}"


def interval(result: Result) -> str:
    """Return a run's 95 % interval in percent."""
    figures = result["figures"]
    return f"{100 * figures['accuracy_low']:.1f} to {100 * figures['accuracy_high']:.1f}"
