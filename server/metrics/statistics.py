"""What one loaded model has done since it was loaded, in the terms of the protocol's statistics extension.

A *request* is one call, an *inference* a sample, an *execution* one run of the trunk, which every sample passes
once: the sum of batch size times executions is the number of inferences that ran to the end.
"""

import time
from dataclasses import dataclass, field

from server.records import InferAnswer, Receipt

_NS = 1e9


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    @property
    def ns(self) -> int:
        """Return the time in whole nanoseconds."""
        return round(self.seconds * _NS)


@dataclass(slots=True)
class Statistics:
    """Durations of requests, and of executions by batch size.

    For an answered request success = compute_input + queue + compute_infer + compute_output, where compute_input is
    parsing and decoding, queue all waiting, compute_infer reader and trunk, and compute_output what follows; of a
    request with several samples the last to finish counts.
    Units: last_inference_ms is Unix time.
    """

    last_inference_ms: int = 0
    inference_count: int = 0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)

    @property
    def execution_count(self) -> int:
        return sum(duration.count for duration in self.batches.values())

    def answered(self, answer: InferAnswer, prepare_s: float) -> None:
        """Count an answered request; `prepare_s` is what passed between its arrival and its admission."""
        receipts = [sample.receipt for sample in answer.samples]
        last = receipts[0] if len(receipts) == 1 else max(receipts, key=_ran_s)
        infer_s = last.read_s + last.trunk_s
        self.last_inference_ms = time.time_ns() // 1_000_000
        self.inference_count += len(receipts)
        self.success.add(last.total_s)
        self.compute_input.add(prepare_s)
        self.queue.add(last.queue_s - prepare_s)
        self.compute_infer.add(infer_s)
        self.compute_output.add(max(0.0, last.total_s - last.queue_s - infer_s))

    def executed(self, num_samples: int, seconds: float) -> None:
        """Count one run of the trunk."""
        duration = self.batches.get(num_samples)
        if duration is None:
            duration = self.batches[num_samples] = Duration()
        duration.add(seconds)


def _ran_s(receipt: Receipt) -> float:
    return receipt.queue_s + receipt.read_s + receipt.trunk_s
