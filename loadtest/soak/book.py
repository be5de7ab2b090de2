"""The client's book: what was asked and what came of it; at the end it has to agree with the server's counters."""

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
"""The status of each outcome that the server counts."""
OK, CANCELLED = 200, 499
ANONYMOUS = "anonymous"
MAY_STAY_UNREAD = {"oip_grpc": 0.1}
"""gRPC drops what is cancelled before a server has read it, at most this share of the calls that leave; bytes on an
HTTP connection of their own are always read."""
FEW = 5
"""So many may stay unread, however few left."""
MAX_FAULTS_KEPT = 10
Usage = Mapping[str, Mapping[str, float]]
"""The totals of `/v1/usage` by tenant."""


class Sum(NamedTuple):
    """Two figures that have to be the same, come to in two ways."""

    name: str
    expected: float
    counted: float


@dataclass(slots=True)
class Spent:
    """What one tenant's receipts add up to."""

    num_samples: int = 0
    useful_flops: int = 0
    executed_flops: int = 0


@dataclass(slots=True)
class Book:
    """Samples calls by protocol and status. A *fickle* call leaves before its answer, so only its sum is known.

    `fickle_flops` are the useful FLOPs of one fickle call if it is answered.
    """

    fickle_flops: int
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    fickle: Counter[str] = field(default_factory=Counter)
    tenants: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    num_unexpected: int = 0
    num_alike: int = 0
    """Answers that came out as an earlier answer to the same question had."""
    faults: list[str] = field(default_factory=list)
    _answers: dict[Hashable, int] = field(default_factory=dict)

    def add(self, protocol: str, status: int, expected: int, told: str = "") -> None:
        """Note one call and what came of it."""
        self.statuses[protocol, status] += 1
        if status != expected:
            self._fault(f"{protocol}; got {status} {told[:200]}; expected {expected}")

    def answered(self, tenant: str, num_samples: int, useful_flops: int, executed_flops: int) -> None:
        """Note an answer's receipts."""
        spent = self.tenants[tenant]
        spent.num_samples += num_samples
        spent.useful_flops += useful_flops
        spent.executed_flops += executed_flops

    def costs(self, question: Hashable, useful_flops: int) -> None:
        """Note what one sample took: the same as every time before, whoever asks, beside whom, of whichever version."""
        before = self._answers.get(question)
        if before is None:
            self._answers[question] = useful_flops
        elif before == useful_flops:
            self.num_alike += 1
        else:
            self._fault(f"FLOPs of {question}; got {useful_flops}; expected {before}, as before")

    def left(self, protocol: str) -> None:
        """Note a fickle call."""
        self.fickle[protocol] += 1

    @property
    def num_calls(self) -> int:
        return self.statuses.total() + self.fickle.total()

    @property
    def num_asked(self) -> int:
        """Return the number of different questions, of which `costs` was told."""
        return len(self._answers)

    def _fault(self, text: str) -> None:
        self.num_unexpected += 1
        if len(self.faults) < MAX_FAULTS_KEPT:
            self.faults.append(text)


def compare(book: Book, counts: Samples, usage: Usage) -> Iterator[Sum]:
    """Give each sum that has to agree: what the client expects, and what the server counted."""
    num_answered = 0.0
    for protocol in sorted({protocol for protocol, _ in book.statuses} | set(book.fickle)):
        num_answered += _num_fickle_answered(book, counts, protocol)
        yield from _compare_calls(book, counts, protocol)
    samples = sum(spent.num_samples for spent in book.tenants.values())
    yield Sum("samples answered", samples + num_answered, total(counts, "adatape_inferences_total"))
    useful = sum(spent.useful_flops for spent in book.tenants.values())
    counted = total(counts, "adatape_flops_total", kind="useful")
    yield Sum("useful FLOPs", useful + num_answered * book.fickle_flops, counted)
    yield from _compare_usage(book, usage, num_answered)
    yield from _compare_own(counts)


def _compare_calls(book: Book, counts: Samples, protocol: str) -> Iterator[Sum]:
    mine, theirs = {s: n for (name, s), n in book.statuses.items() if name == protocol}, _by_status(counts, protocol)
    fickle = book.fickle[protocol]
    left = _num_fickle_answered(book, counts, protocol) + theirs[CANCELLED]
    may_stay = max(FEW, MAY_STAY_UNREAD[protocol] * fickle) if protocol in MAY_STAY_UNREAD else 0.0
    unread = min(max(0.0, fickle - left), may_stay)
    told = f" ({unread:.0f} more were cancelled before they were read)" if unread else ""
    yield Sum(f"{protocol} calls", sum(mine.values()) + fickle - unread, theirs.total())
    yield Sum(f"{protocol} calls that left{told}", fickle - unread, left)
    for status in sorted((set(mine) | set(theirs)) - {OK, CANCELLED}):
        yield Sum(f"{protocol} {status}", mine.get(status, 0), theirs[status])


def _compare_usage(book: Book, usage: Usage, num_fickle: float) -> Iterator[Sum]:
    """Hold what is billed against receipts; those of fickle calls, who are all anonymous, nobody has seen."""
    for tenant in sorted(set(book.tenants) | {name for name, sums in usage.items() if sums["num_samples"]}):
        spent, sums = book.tenants[tenant], usage.get(tenant, {})
        unseen = num_fickle if tenant == ANONYMOUS else 0
        yield Sum(f"samples of {tenant}", spent.num_samples + unseen, sums.get("num_samples", 0))
        useful = spent.useful_flops + unseen * book.fickle_flops
        yield Sum(f"useful FLOPs of {tenant}", useful, sums.get("useful_flops", 0))
        if tenant != ANONYMOUS:
            yield Sum(f"executed FLOPs of {tenant}", spent.executed_flops, sums.get("executed_flops", 0))


def _compare_own(counts: Samples) -> Iterator[Sum]:
    """Hold the server's counters against one another, now that nobody asks any more."""
    ran = total(counts, "adatape_executed_flops_total")
    yield Sum("FLOPs by execution, and by what they were for", ran, total(counts, "adatape_flops_total"))
    for name, metric in {
        "samples pending": "adatape_pending_samples",
        "executions running": "adatape_executions_running",
    }.items():
        yield Sum(f"{name} at the end", 0, total(counts, metric))
    yield Sum("connections at the end: that which asks", 1, total(counts, "adatape_open_connections"))


def _num_fickle_answered(book: Book, counts: Samples, protocol: str) -> float:
    return _by_status(counts, protocol)[OK] - book.statuses[protocol, OK]


def _by_status(counts: Samples, protocol: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for (name, pairs), value in counts.items():
        labels = dict(pairs)
        if name == "adatape_requests_total" and labels["protocol"] == protocol and value:
            found[STATUS_OF[labels["outcome"]]] += round(value)
    return found
