"""What a server's own counters say it did, between two moments."""

import re
import urllib.request
from dataclasses import dataclass

_LINE = re.compile(r"^(adatape_\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the server started.

    Units: FLOPs executed, padding included; samples answered.
    """

    executed_flops: float
    inferences: float

    def since(self, earlier: "Counters") -> "Counters":
        return Counters(self.executed_flops - earlier.executed_flops, self.inferences - earlier.inferences)

    @property
    def flops_each(self) -> float:
        """Return the FLOPs executed for each sample answered."""
        return self.executed_flops / self.inferences


def read_counters(url: str) -> Counters:
    """Ask a server for its metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_S) as reply:  # noqa: S310 - our own server
        return parse_counters(reply.read().decode())


def parse_counters(text: str) -> Counters:
    """Add up the series of a metrics page over all models."""
    flops = inferences = 0.0
    for name, labels, value in _LINE.findall(text):
        if name == "adatape_flops_total" and 'kind="wasted"' not in labels:
            flops += float(value)
        elif name == "adatape_inferences_total":
            inferences += float(value)
    return Counters(flops, inferences)
