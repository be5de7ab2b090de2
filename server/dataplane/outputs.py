"""Makes the protocol's outputs of the engine's answer, and response parameters of its receipts.

Shapes: B samples, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.dataplane.messages import OipResponse
from server.dataplane.signature import TensorSpec
from server.dataplane.tensors import BYTES, OutputTensor
from server.records import Floats, InferAnswer, Sample

_MS = 1000.0
Samples = Sequence[Sample]


def to_oip_response(
    answer: InferAnswer, chosen: Sequence[tuple[TensorSpec, int]], labels: Sequence[str]
) -> OipResponse:
    """Return the chosen outputs, and the receipt."""
    outputs = [_to_tensor(answer.samples, spec, num_classes, labels) for spec, num_classes in chosen]
    return OipResponse(answer.model, answer.version, outputs, to_parameters(answer.samples))


def is_cut_short(answer: InferAnswer) -> bool:
    """Say whether a larger cap could improve an answer: whether any sample wanted, or might want, more tape."""
    receipts = [sample.receipt for sample in answer.samples]
    return any(each.tape_length_wanted is None or each.tape_length_wanted > each.tape_length for each in receipts)


def to_parameters(samples: Samples) -> dict[str, str | int | float]:
    """Return the receipt of a request as response parameters, which hold no lists.

    FLOPs are those of all samples together, and milliseconds those of the slowest sample. The other values are there
    only for a request of one sample; the outputs have them for each sample.
    """
    receipts = [sample.receipt for sample in samples]
    parameters: dict[str, str | int | float] = {
        "useful_flops": sum(receipt.useful_flops for receipt in receipts),
        "executed_flops": sum(receipt.executed_flops for receipt in receipts),
        "queue_ms": max(receipt.queue_s for receipt in receipts) * _MS,
        "read_ms": max(receipt.read_s for receipt in receipts) * _MS,
        "trunk_ms": max(receipt.trunk_s for receipt in receipts) * _MS,
        "total_ms": max(receipt.total_s for receipt in receipts) * _MS,
    }
    if len(receipts) == 1:
        (only,) = receipts
        parameters["cap"] = only.cap
        parameters["budget_reason"] = only.budget_reason.value
        parameters["tape_length"] = only.tape_length
        if only.tape_length_wanted is not None:
            parameters["tape_length_wanted"] = only.tape_length_wanted
        parameters["bucket"] = only.bucket
    return parameters


def _to_tensor(samples: Samples, spec: TensorSpec, num_classes: int, labels: Sequence[str]) -> OutputTensor:
    values = _VALUES[spec.name](samples)
    if num_classes == 0:
        return OutputTensor(spec.name, spec.datatype, values.shape, values)
    top = [text for scores_C in values for text in classify(scores_C, num_classes, labels)]
    return OutputTensor(spec.name, BYTES, (len(samples), len(top) // len(samples)), top)


def classify(scores_C: NDArray[Any], num_classes: int, labels: Sequence[str]) -> list[bytes]:
    """Return the best classes as `score:index:label`, best first; no more than there are."""
    best = np.argsort(-scores_C, kind="stable")[:num_classes].tolist()
    return [f"{scores_C[index]:f}:{index}:{labels[index]}".encode() for index in best]


def _logits(samples: Samples) -> Floats:
    if len(samples) == 1:
        return samples[0].logits_C[None]
    return np.stack([sample.logits_C for sample in samples])


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Return probabilities that sum to 1 along the last axis, whatever the size of the logits."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _column(values: list[int], dtype: type[np.integer[Any]]) -> NDArray[Any]:
    return np.array(values, dtype).reshape(-1, 1)


_VALUES: dict[str, Callable[[Samples], NDArray[Any]]] = {
    "logits": _logits,
    "probabilities": lambda samples: softmax(_logits(samples)).astype(np.float32),
    "tape_length": lambda samples: _column([each.receipt.tape_length for each in samples], np.int32),
    # 0 where nothing was read: a sample that is read wants at least one token.
    "tape_length_wanted": lambda samples: _column([each.receipt.tape_length_wanted or 0 for each in samples], np.int32),
    "flops": lambda samples: _column([each.receipt.useful_flops for each in samples], np.int64),
}
