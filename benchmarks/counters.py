"""The work that a server's own counters show between two moments."""

from dataclasses import dataclass

from loadtest.metrics import Samples, total


@dataclass(frozen=True, slots=True)
class Counters:
    """Totals since the server started, over all models.

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


def add_up(samples: Samples) -> Counters:
    """Add up the samples of a metrics page."""
    flops = total(samples, "adatape_flops_total") - total(samples, "adatape_flops_total", kind="wasted")
    return Counters(flops, total(samples, "adatape_inferences_total"))
