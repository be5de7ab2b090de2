"""Renders answers and receipts as `/v1/classify` returns them: in milliseconds, where the server counts seconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from server.dataplane.outputs import softmax
from server.images import Box, Placement
from server.models.manifest import Manifest
from server.records import Floats, InferAnswer, Receipt, Sample

_MS = 1000.0
Json = dict[str, Any]


def to_answer(
    answer: InferAnswer, manifest: Manifest, files: Sequence[str | None], placements: Sequence[Placement], top_k: int
) -> Json:
    """Return one request's answer: a list of results, in the order of the images."""
    results = [
        _to_result(sample, manifest, file, placement, top_k)
        for sample, file, placement in zip(answer.samples, files, placements, strict=True)
    ]
    return {"id": answer.request_id, "model": answer.model, "version": answer.version, "results": results}


def _to_result(sample: Sample, manifest: Manifest, file: str | None, placement: Placement, top_k: int) -> Json:
    result: Json = {} if file is None else {"file": file}
    result["predictions"] = top_predictions(sample.logits_C, manifest.labels, top_k)
    result["receipt"] = to_receipt(sample.receipt, manifest)
    if sample.picks_NK is not None and sample.pick_weights_NK is not None:
        result["explanation"] = _to_explanation(sample, manifest, placement)
    return result


def top_predictions(logits_C: Floats, labels: Sequence[str], top_k: int) -> list[Json]:
    """Return the most probable classes, best first; equal ones in the order of the labels."""
    probabilities_C = softmax(logits_C)
    best = np.argsort(-probabilities_C, kind="stable")[:top_k]
    return [
        {"label": labels[index], "index": index, "probability": probability}
        for index, probability in zip(best.tolist(), probabilities_C[best].tolist(), strict=True)
    ]


def to_receipt(receipt: Receipt, manifest: Manifest) -> Json:
    """Return a receipt in public units, and what the answer would have cost at full tape."""
    capacity = manifest.tape_capacity
    return {
        "cap": receipt.cap,
        "budget_reason": receipt.budget_reason.value,
        "tape_length": receipt.tape_length,
        "tape_length_wanted": receipt.tape_length_wanted,
        "tape_capacity": capacity,
        "bucket": receipt.bucket,
        "useful_flops": receipt.useful_flops,
        "executed_flops": receipt.executed_flops,
        "full_flops": manifest.flops.useful(capacity, capacity),
        "queue_ms": receipt.queue_s * _MS,
        "read_ms": receipt.read_s * _MS,
        "trunk_ms": receipt.trunk_s * _MS,
        "total_ms": receipt.total_s * _MS,
    }


def _to_explanation(sample: Sample, manifest: Manifest, placement: Placement) -> Json:
    """Return what each tape token read. The entries of a learnable bank have no place in the image."""
    assert sample.picks_NK is not None
    assert sample.pick_weights_NK is not None
    size = manifest.preprocessing
    assert size is not None, "Only images are classified. This is a bug."
    length = sample.receipt.tape_length
    picks, weights = sample.picks_NK[:length].tolist(), sample.pick_weights_NK[:length].tolist()
    tokens = [
        {"token": token, "reads": [_to_read(*read, manifest, placement) for read in zip(*reads, strict=True)]}
        for token, reads in enumerate(zip(picks, weights, strict=True))
    ]
    return {
        "bank": manifest.bank.kind,
        "input_size": {"width": size.width, "height": size.height},
        "upload_size": {"width": placement.width, "height": placement.height},
        "tokens": tokens,
    }


def _to_read(index: int, weight: float, manifest: Manifest, placement: Placement) -> Json:
    if manifest.bank.kind == "learn":
        return {"entry": index, "weight": weight}
    row, column = divmod(index, manifest.bank.cols)
    box = patch_box(row, column, manifest)
    return {
        "entry": index,
        "row": row,
        "column": column,
        "box": _to_box(box),
        "upload_box": _to_box(placement.to_upload(box)),
        "weight": weight,
    }


def patch_box(row: int, column: int, manifest: Manifest) -> Box:
    """Return the (left, top, right, bottom) of one bank entry's patch, in pixels of the model's input."""
    bank, size = manifest.bank, manifest.preprocessing
    assert size is not None, "Only images have patches. This is a bug."
    left, top = column * size.width / bank.cols, row * size.height / bank.rows
    return (left, top, min(left + bank.patch_px, size.width), min(top + bank.patch_px, size.height))


def _to_box(box: Box) -> Json:
    return dict(zip(("left", "top", "right", "bottom"), box, strict=True))
