"""How long each stage takes on this machine, by bucket and batch size."""

import time
from collections.abc import Callable, Iterator
from statistics import median

from export.images import Inputs
from export.runtime import NUM_THREADS, Runtime, hardware, runtime_version
from server.models.manifest import Latency, LatencyTable

BATCHES = (1, 2, 4, 8, 16, 32, 64)
MIN_RUNS, MAX_RUNS = 3, 30
CELL_BUDGET_S = 0.4
"""Seconds after which a cell has been measured enough, once it has its fewest runs."""


def measure_latency(runtime: Runtime, inputs_BX: Inputs, max_batch_size: int) -> LatencyTable:
    """Time every stage on the first rows of `inputs_BX`, the trunk as the embedded engine runs it."""
    batches = [batch for batch in BATCHES if batch <= max_batch_size]
    entries = [entry for batch in batches for entry in _entries(runtime, inputs_BX[:batch])]
    return LatencyTable(hardware=hardware(), runtime=runtime_version(), num_threads=NUM_THREADS, entries=entries)


def _entries(runtime: Runtime, inputs_BX: Inputs) -> Iterator[Latency]:
    buckets, batch = runtime.names.buckets, len(inputs_BX)
    capacity = buckets[-1]
    yield Latency(stage="embed", bucket=0, batch=batch, p50_s=_p50_s(lambda: runtime.read(inputs_BX, 0)))
    yield Latency(stage="read", bucket=0, batch=batch, p50_s=_p50_s(lambda: runtime.read(inputs_BX, capacity)))
    for bucket in buckets:
        reading = runtime.read(inputs_BX, bucket)
        p50_s = _p50_s(lambda reading=reading, bucket=bucket: runtime.trunk(reading, bucket))  # type: ignore[misc]
        yield Latency(stage="trunk", bucket=bucket, batch=batch, p50_s=p50_s)


def _p50_s(run: Callable[[], object]) -> float:
    run()
    spent: list[float] = []
    while len(spent) < MIN_RUNS or (len(spent) < MAX_RUNS and sum(spent) < CELL_BUDGET_S):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return median(spent)


def table(latency: LatencyTable) -> str:
    """Return the table as text: a line a stage and bucket, a column a batch size; milliseconds."""
    batches = sorted({entry.batch for entry in latency.entries})
    rows: dict[str, dict[int, float]] = {}
    for entry in latency.entries:
        name = f"trunk {entry.bucket}" if entry.stage == "trunk" else entry.stage
        rows.setdefault(name, {})[entry.batch] = entry.p50_s * 1e3
    head = f"  {'ms at batch':12}" + "".join(f"{batch:9d}" for batch in batches)
    lines = [f"  {name:12}" + "".join(f"{cells[batch]:9.2f}" for batch in batches) for name, cells in rows.items()]
    return "\n".join(
        [f"latency, medians: {latency.hardware}, {latency.runtime}, {latency.num_threads} thread", head, *lines]
    )
