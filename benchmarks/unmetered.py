"""`python -m benchmarks.unmetered`: the server, options and all, with meters that count nothing.

What `benchmarks.metering` compares the real one with; `/metrics` shows zeros, and so do the statistics.
"""

from typing import Any

from server.__main__ import main
from server.metrics import metrics
from server.metrics.meters import ModelMeter


def _nothing(*_: Any, **__: Any) -> None:
    """Count nothing."""


class Unmetered(ModelMeter):
    """A family's meter whose every event comes to nothing."""

    asked = admitted = executed = measured = answered = refused = failed = wasted = _nothing


if __name__ == "__main__":
    metrics.ModelMeter = Unmetered  # type: ignore[misc]
    main()
