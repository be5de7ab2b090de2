"""The client's log counts requests and their answers; at the end it has to agree with the server's counters."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from loadtest.metrics import Samples, total

STATUS_OF = {
    "ok": 200, "bad_request": 400, "unauthenticated": 401, "forbidden": 403, "not_found": 404,
    "method_not_allowed": 405, "too_slow": 408, "too_large": 413, "not_an_image": 415, "quota": 429,
    "head_too_large": 431, "expectation": 417, "cancelled": 499, "internal": 500, "backend": 500,
    "out_of_memory": 500, "overload": 503, "draining": 503,
    "unavailable": 503, "model_not_ready": 503, "too_many_connections": 503, "deadline": 504,
}  # fmt: skip
"""The status of each outcome that the server samples."""
OK, CANCELLED = 200, 499
ANONYMOUS = "anonymous"
MAY_STAY_UNREAD = {"oip_grpc": 0.1}
"""The largest share of abandoned requests that the server may never see: gRPC drops requests that are cancelled before
the server has read them. HTTP requests on a connection of their own are always read."""
FEW = 5
"""This many may stay unread, however few were abandoned."""
MAX_FAULTS_KEPT = 10
Usage = Mapping[str, Mapping[str, float]]
"""The totals of `/v1/usage` by tenant."""


class Comparison(NamedTuple):
    """Two figures, from two sources, that have to be equal."""

    name: str
    expected: float
    counted: float


@dataclass(slots=True)
class TenantTotals:
    """What one tenant's receipts add up to."""

    num_samples: int = 0
    useful_flops: int = 0
    executed_flops: int = 0


@dataclass(slots=True)
class ClientLog:
    """Counts requests by protocol and status.

    The caller of an *abandoned* request disconnects before the answer, so only the sum of their outcomes is known.

    `abandoned_flops` are the useful FLOPs of one abandoned request if it is answered.
    """

    abandoned_flops: int
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    abandoned: Counter[str] = field(default_factory=Counter)
    tenants: defaultdict[str, TenantTotals] = field(default_factory=lambda: defaultdict(TenantTotals))
    num_unexpected: int = 0
    num_repeated: int = 0
    """Samples that took the same FLOPs as an earlier, equal sample."""
    faults: list[str] = field(default_factory=list)
    _answers: dict[Hashable, int] = field(default_factory=dict)

    def add(self, protocol: str, status: int, expected: int, message: str = "") -> None:
        """Count one request and its status."""
        self.statuses[protocol, status] += 1
        if status != expected:
            self._fault(f"{protocol}; got {status} {message[:200]}; expected {expected}")

    def add_receipts(self, tenant: str, num_samples: int, useful_flops: int, executed_flops: int) -> None:
        """Add an answer's receipts to its tenant's totals."""
        totals = self.tenants[tenant]
        totals.num_samples += num_samples
        totals.useful_flops += useful_flops
        totals.executed_flops += executed_flops

    def add_cost(self, question: Hashable, useful_flops: int) -> None:
        """Check that one sample took as many FLOPs as the same sample before, in whatever batch and version."""
        before = self._answers.get(question)
        if before is None:
            self._answers[question] = useful_flops
        elif before == useful_flops:
            self.num_repeated += 1
        else:
            self._fault(f"FLOPs of {question}; got {useful_flops}; expected {before}, as before")

    def add_abandoned(self, protocol: str) -> None:
        """Count an abandoned request."""
        self.abandoned[protocol] += 1

    @property
    def num_calls(self) -> int:
        return self.statuses.total() + self.abandoned.total()

    @property
    def num_questions(self) -> int:
        """Return the number of different samples that `add_cost` was called with."""
        return len(self._answers)

    def _fault(self, text: str) -> None:
        self.num_unexpected += 1
        if len(self.faults) < MAX_FAULTS_KEPT:
            self.faults.append(text)


def compare(log: ClientLog, samples: Samples, usage: Usage) -> Iterator[Comparison]:
    """Yield each pair of sums that has to agree: what the client expects, and what the server counted."""
    num_answered = 0.0
    for protocol in sorted({protocol for protocol, _ in log.statuses} | set(log.abandoned)):
        num_answered += _num_abandoned_answered(log, samples, protocol)
        yield from _compare_calls(log, samples, protocol)
    num_samples = sum(totals.num_samples for totals in log.tenants.values())
    yield Comparison("samples answered", num_samples + num_answered, total(samples, "adatape_inferences_total"))
    useful = sum(totals.useful_flops for totals in log.tenants.values())
    counted = total(samples, "adatape_flops_total", kind="useful")
    yield Comparison("useful FLOPs", useful + num_answered * log.abandoned_flops, counted)
    yield from _compare_usage(log, usage, num_answered)
    yield from _compare_own(samples)


def _compare_calls(log: ClientLog, samples: Samples, protocol: str) -> Iterator[Comparison]:
    mine, theirs = (
        {s: n for (name, s), n in log.statuses.items() if name == protocol},
        _by_status(samples, protocol),
    )
    abandoned = log.abandoned[protocol]
    left = _num_abandoned_answered(log, samples, protocol) + theirs[CANCELLED]
    may_stay = max(FEW, MAY_STAY_UNREAD[protocol] * abandoned) if protocol in MAY_STAY_UNREAD else 0.0
    unread = min(max(0.0, abandoned - left), may_stay)
    note = f" ({unread:.0f} more were cancelled before they were read)" if unread else ""
    yield Comparison(f"{protocol} calls", sum(mine.values()) + abandoned - unread, theirs.total())
    yield Comparison(f"{protocol} calls that left{note}", abandoned - unread, left)
    for status in sorted((set(mine) | set(theirs)) - {OK, CANCELLED}):
        yield Comparison(f"{protocol} {status}", mine.get(status, 0), theirs[status])


def _compare_usage(log: ClientLog, usage: Usage, num_abandoned: float) -> Iterator[Comparison]:
    """Compare the usage report with the receipts; abandoned requests are anonymous, and their receipts unknown."""
    for tenant in sorted(set(log.tenants) | {name for name, sums in usage.items() if sums["num_samples"]}):
        totals, sums = log.tenants[tenant], usage.get(tenant, {})
        unseen = num_abandoned if tenant == ANONYMOUS else 0
        yield Comparison(f"samples of {tenant}", totals.num_samples + unseen, sums.get("num_samples", 0))
        useful = totals.useful_flops + unseen * log.abandoned_flops
        yield Comparison(f"useful FLOPs of {tenant}", useful, sums.get("useful_flops", 0))
        if tenant != ANONYMOUS:
            yield Comparison(f"executed FLOPs of {tenant}", totals.executed_flops, sums.get("executed_flops", 0))


def _compare_own(samples: Samples) -> Iterator[Comparison]:
    """Compare the server's counters with one another, after all requests have ended."""
    ran = total(samples, "adatape_executed_flops_total")
    yield Comparison("FLOPs by execution, and by what they were for", ran, total(samples, "adatape_flops_total"))
    for name, metric in {
        "samples pending": "adatape_pending_samples",
        "executions running": "adatape_executions_running",
    }.items():
        yield Comparison(f"{name} at the end", 0, total(samples, metric))
    yield Comparison("connections at the end: that which asks", 1, total(samples, "adatape_open_connections"))


def _num_abandoned_answered(log: ClientLog, samples: Samples, protocol: str) -> float:
    return _by_status(samples, protocol)[OK] - log.statuses[protocol, OK]


def _by_status(samples: Samples, protocol: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for (name, pairs), value in samples.items():
        labels = dict(pairs)
        if name == "adatape_requests_total" and labels["protocol"] == protocol and value:
            found[STATUS_OF[labels["outcome"]]] += round(value)
    return found
