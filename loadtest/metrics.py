"""Reads a page of Prometheus metrics."""

import re
from collections.abc import Mapping

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by the name of the metric and its labels."""
_LINE = re.compile(r"(\w+)(?:\{([^}]*)\})? (\S+)(?: #.*)?")


def parse_metrics(text: str) -> Samples:
    """Return every sample of a page."""
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
            samples[name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))] = float(value)
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that bear these labels."""
    wanted = set(labels.items())
    return sum(value for (found, pairs), value in samples.items() if found == name and wanted <= pairs)
