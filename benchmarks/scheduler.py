"""`python -m benchmarks.scheduler`: the time of scheduling decisions with many requests in a queue."""

import time
from collections.abc import Sequence
from math import inf, log
from random import Random

from benchmarks.command import Options, parser, run
from benchmarks.report import Aim, Report
from server.backends.fake import fake_manifest
from server.models.manifest import Manifest
from server.records import Priority
from server.scheduler import Costs, LatencyModel, Scheduler, Stage, Ticket, due_s

PENDING = (1_000, 10_000, 100_000)
MIN_RATE = 100_000.0
MAX_BATCH_SIZE = 64
MODEL = "model"
CHUNK = 256
MAX_RUN_S = 2.0
"""A run ends after this even if it has served fewer requests than asked."""
ARRIVALS_PER_S = 1_000.0
DEADLINE_S = 3_600.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Schedule requests through both stages as fast as it goes."""
    options = parser("scheduler", "scheduling decisions a second with many requests pending; runs no graphs")
    options.add_argument("--requests", type=int, default=200_000, help="in each run (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=5, help="runs of each kind (default: %(default)s)")
    run(measure, options, arguments)


class FullQueue:
    """A scheduler with a constant number of pending requests: each one that leaves is replaced."""

    def __init__(self, manifest: Manifest, num_pending: int, *, has_deadlines: bool) -> None:
        self._scheduler: Scheduler[Ticket] = Scheduler()
        self._scheduler.add_model(MODEL, Costs(manifest, LatencyModel(manifest), MAX_BATCH_SIZE))
        self._has_deadlines = has_deadlines
        self._capacity = manifest.tape_capacity
        rng = Random(0)
        lengths = [rng.randint(1, self._capacity) for _ in range(4096)]
        self._buckets = [manifest.bucket_for(length) for length in lengths]
        self._priorities = rng.choices(list(Priority), weights=(1, 8, 1), k=4096)
        self._num_arrived = 0
        self.now = 0.0
        for _ in range(num_pending):
            self._arrive()

    @property
    def num_waiting(self) -> int:
        return self._scheduler.num_waiting

    def serve(self, num_requests: int) -> None:
        """Form batches, and send their requests on, until so many requests have left the trunk."""
        scheduler = self._scheduler
        num_left = 0
        while num_left < num_requests:
            scheduler.expire(self.now)
            batch = scheduler.next_batch(self.now)
            assert batch is not None, "Requests are pending. This is a bug."
            if batch.stage is Stage.TRUNK:
                num_left += len(batch.tickets)
                for _ in batch.tickets:
                    self._arrive()
            else:
                for ticket in batch.tickets:
                    scheduler.push(MODEL, Stage.TRUNK, self._buckets[ticket.order % 4096], ticket, self.now)

    def _arrive(self) -> None:
        number = self._num_arrived
        self._num_arrived = number + 1
        self.now = number / ARRIVALS_PER_S
        priority = self._priorities[number % 4096]
        deadline_s = self.now + DEADLINE_S if self._has_deadlines else inf
        ticket = Ticket(due_s(self.now, deadline_s, priority), number, self._capacity, deadline_s, priority)
        self._scheduler.push(MODEL, Stage.READ, 0, ticket, self.now)


def measure(options: Options) -> Report:
    """Time the scheduler alone, on requests with and without deadlines."""
    num_requests, rounds = options.requests, options.rounds
    if options.quick:
        num_requests, rounds = min(20_000, num_requests), 1
    report = Report("scheduler", "Pure scheduling decisions")
    for has_deadlines in (False, True):
        _measure_kind(report, num_requests, rounds, has_deadlines=has_deadlines)
    report.notes = [
        (
            "A request is pushed, chosen for a reader batch, pushed again and chosen for a trunk batch; "
            "ticket creation, "
            "`expire` and the prediction of costs are included, no graph is run. Batches of up to "
            f"{MAX_BATCH_SIZE}, three priorities, tape lengths drawn at random. One thread (CPU time) of plain Python. "
            "The best of "
            f"{rounds} runs counts, because other work on the machine only ever slows one down. Growth is the "
            "cost of a "
            f"request with {PENDING[-1]} pending over that with {PENDING[0]}, as a multiple of the ratio of logarithms."
        ),
    ]
    return report


def _measure_kind(report: Report, num_requests: int, rounds: int, *, has_deadlines: bool) -> None:
    kind = "with deadlines" if has_deadlines else "without deadlines"
    best_s = {pending: min(_each_s(pending, num_requests, has_deadlines) for _ in range(rounds)) for pending in PENDING}
    for pending, each_s in best_s.items():
        row = {"requests": kind, "pending": pending, "requests/s": round(1 / each_s), "µs a request": each_s * 1e6}
        report.rows.append(row)
    growth = (best_s[PENDING[-1]] / best_s[PENDING[0]]) / (log(PENDING[-1]) / log(PENDING[0]))
    report.aims += [
        Aim(f"requests/s with {PENDING[-1]} pending, {kind}", 1 / best_s[PENDING[-1]], MIN_RATE),
        Aim(f"growth of cost ÷ growth of log n, {kind}", growth, 1.0, is_at_least=False),
    ]


def _each_s(num_pending: int, num_requests: int, has_deadlines: bool) -> float:
    queue = FullQueue(fake_manifest(), num_pending, has_deadlines=has_deadlines)
    queue.serve(CHUNK)
    num_served, start_s = 0, time.process_time()
    while num_served < num_requests and time.process_time() - start_s < MAX_RUN_S:
        queue.serve(CHUNK)
        num_served += CHUNK
    return (time.process_time() - start_s) / num_served


if __name__ == "__main__":
    main()
