"""Results of several seeds, gathered and laid out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adatape.checkpoint import read_json
from adatape.curve import wilson_interval

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


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second: the median of several measurements, the slowest and the fastest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:,.0f} ({self.low:,.0f} to {self.high:,.0f})"


Speeds = Mapping[tuple[str, str], Mapping[int, Rate]]
"""By model and runtime, the rate at each batch size."""
ONNX, TORCH = "onnxruntime", "torch"


def read_speeds(path: Path) -> Speeds:
    """Return what `benchmarks.study_speed` measured; nothing if it did not run."""
    if not path.is_file():
        return {}
    return {
        (model["variant"], model["runtime"]): {
            int(batch): Rate(**rate) for batch, rate in model["images_per_s"].items()
        }
        for model in read_json(path)["models"]
    }


def best_rate(speeds: Speeds, variant: str, batch: int) -> Rate | None:
    """Return a model's rate on onnxruntime, or where it has no graphs, in torch."""
    found = speeds.get((variant, ONNX), speeds.get((variant, TORCH), {}))
    return found.get(batch)


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
    """Return the mean accuracy in percent, with the lowest and the highest seed; of one seed, with its interval."""
    if seeds is None:
        return NOT_RUN
    values = [100 * value for value in seeds.values(accuracy)]
    if len(values) > 1:
        return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"
    low, high = wilson_interval(round(seeds.accuracy * seeds.num_samples), seeds.num_samples)
    return f"{values[0]:.1f} ± {50 * (high - low):.1f}"
