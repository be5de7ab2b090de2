"""The tallies of the versions that are loaded, and of the last few that were."""

from collections import Counter as Multiset
from collections.abc import Iterator
from typing import TYPE_CHECKING

from server.metrics.tally import VersionCounts
from server.models.manifest import Manifest

if TYPE_CHECKING:
    from server.metrics.metrics import Metrics

MAX_RETIRED = 4
"""Versions of one family whose series are still shown after their last load: a scrape sees what they counted in the
end, and a version that comes back goes on counting. Without a limit, memory and `/metrics` grow with each version."""


class VersionCountsRegistry:
    """One tally a version, for as long as it is loaded and until `MAX_RETIRED` others of its family have gone since."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics
        self._tallies: dict[tuple[str, str], VersionCounts] = {}
        self._num_loads: Multiset[tuple[str, str]] = Multiset()
        self._retired: dict[tuple[str, str], None] = {}
        """Versions that are not loaded, the one that went first in front."""

    def __iter__(self) -> Iterator[VersionCounts]:
        return iter(self._tallies.values())

    def open(self, manifest: Manifest) -> VersionCounts:
        """Return the tally of a version: the same for each load of it, or what one load counts could be lost."""
        place = (manifest.family, manifest.version)
        self._num_loads[place] += 1
        self._retired.pop(place, None)
        former = self._tallies.get(place)
        if former is None or former.manifest != manifest:
            if former is not None:
                former.settle()
            self._tallies[place] = VersionCounts(self._metrics, manifest)
        return self._tallies[place]

    def close(self, manifest: Manifest) -> None:
        """Note that a load of a version is over, all of its requests settled; let go of what is long gone."""
        place = (manifest.family, manifest.version)
        self._num_loads[place] -= 1
        if self._num_loads[place] > 0:
            return
        del self._num_loads[place]
        tally = self._tallies[place]
        tally.settle()
        tally.mean_flops = None  # it holds on to the load's predictions
        self._retired[place] = None
        mine = [each for each in self._retired if each[0] == manifest.family]
        for each in mine[:-MAX_RETIRED]:
            self._forget(*each)

    def _forget(self, family: str, version: str) -> None:
        del self._retired[family, version], self._tallies[family, version]
        for histogram in (self._metrics.sample, self._metrics.useful, self._metrics.executed):
            histogram.forget(family, version)
