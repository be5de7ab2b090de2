"""The client's book: what was asked and what came of it; at the end it has to agree with the server's counters."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from loadtest.serving import Counts, total

STATUS_OF = {
    "ok": 200, "bad_request": 400, "unauthenticated": 401, "forbidden": 403, "not_found": 404,
    "method_not_allowed": 405, "too_slow": 408, "too_large": 413, "not_an_image": 415, "quota": 429,
    "head_too_large": 431, "cancelled": 499, "internal": 500, "backend": 500, "out_of_memory": 500, "overload": 503,
    "draining": 503, "unavailable": 503, "model_not_ready": 503, "too_many_connections": 503, "deadline": 504,
}  # fmt: skip
"""The status of each outcome that the server counts."""
OK, CANCELLED = 200, 499
MAY_STAY_UNREAD = {"oip_grpc"}
"""gRPC drops what is cancelled before a server has read it; bytes on a connection of their own are always read."""
MAX_FAULTS_KEPT = 10


@dataclass(slots=True)
class Book:
    """Counts calls by protocol and status. A *fickle* call leaves before its answer, so only its sum is known.

    `fickle_flops` and `useful_flops` are FLOPs: what one fickle call costs if it is answered, and what the receipts
    of all others add up to.
    """

    fickle_flops: int
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    fickle: Counter[str] = field(default_factory=Counter)
    useful_flops: int = 0
    num_samples: int = 0
    frugal_flops: int = 0
    """What the receipts of the frugal tenant add up to."""
    num_unexpected: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, protocol: str, status: int, expected: int, told: str = "") -> None:
        """Note one call and what came of it."""
        self.statuses[protocol, status] += 1
        if status != expected:
            self.num_unexpected += 1
            if len(self.faults) < MAX_FAULTS_KEPT:
                self.faults.append(f"{protocol}; got {status} {told[:200]}; expected {expected}")

    def answered(self, num_samples: int, useful_flops: int) -> None:
        """Note an answer's receipts."""
        self.num_samples += num_samples
        self.useful_flops += useful_flops

    def left(self, protocol: str) -> None:
        """Note a fickle call."""
        self.fickle[protocol] += 1

    @property
    def num_calls(self) -> int:
        return self.statuses.total() + self.fickle.total()


def compare(book: Book, counts: Counts) -> Iterator[tuple[str, float, float]]:
    """Give each sum that has to agree: its name, what the client knows and what the server counted."""
    num_answered = 0.0
    for protocol in sorted({protocol for protocol, _ in book.statuses} | set(book.fickle)):
        by_status = _by_status(counts, protocol)
        fickle_answered = by_status[OK] - book.statuses[protocol, OK]
        num_answered += fickle_answered
        left = fickle_answered + by_status[CANCELLED]
        unread = max(0.0, book.fickle[protocol] - left) if protocol in MAY_STAY_UNREAD else 0.0
        mine = sum(_mine(book, protocol).values()) + book.fickle[protocol] - unread
        yield f"{protocol} calls", mine, by_status.total()
        told = f" ({unread:.0f} more were cancelled before they were read)" if unread else ""
        yield f"{protocol} calls that left{told}", book.fickle[protocol] - unread, left
        for status in sorted(set(by_status) | set(_mine(book, protocol))):
            if status not in {OK, CANCELLED}:
                yield f"{protocol} {status}", book.statuses[protocol, status], by_status[status]
    yield "samples answered", book.num_samples + num_answered, total(counts, "adatape_inferences_total")
    useful = total(counts, "adatape_flops_total", kind="useful")
    yield "useful FLOPs", book.useful_flops + num_answered * book.fickle_flops, useful


def _mine(book: Book, protocol: str) -> dict[int, int]:
    return {status: count for (name, status), count in book.statuses.items() if name == protocol}


def _by_status(counts: Counts, protocol: str) -> Counter[int]:
    found: Counter[int] = Counter()
    for (name, pairs), value in counts.items():
        labels = dict(pairs)
        if name == "adatape_requests_total" and labels["protocol"] == protocol and value:
            found[STATUS_OF[labels["outcome"]]] += round(value)
    return found
