"""Batches: every sample is answered as if it were alone."""

from collections.abc import Mapping
from dataclasses import replace

from loadtest.conformance.expect import expect
from loadtest.conformance.messages import json_message, read_answer
from loadtest.conformance.registry import MUST, check
from loadtest.conformance.target import Target
from loadtest.conformance.tensors import Tensor, are_close

SOURCE = "OIP REST, Inference"


@check("http.infer.rows_keep_their_order", MUST, SOURCE)
def rows_keep_their_order(target: Target) -> None:
    """The rows of a batch are answered as each alone, in their order."""
    target.model.tensors(2)  # skips where there are no batches
    one, other = (target.model.tensors(seed=seed) for seed in (1, 2))
    forward, backward = (_outputs_of(target, pair) for pair in ((one, other), (other, one)))
    for name, tensor in forward.items():
        half = len(tensor.items) // 2
        turned = replace(backward[name], items=[*backward[name].items[half:], *backward[name].items[:half]])
        expect(are_close(tensor, turned), f"{name} that depends on the place in the batch", "the same rows")


def _outputs_of(target: Target, pair: tuple[list[Tensor], list[Tensor]]) -> Mapping[str, Tensor]:
    """Ask for two samples as one batch."""
    stacked = [
        replace(one, shape=(2, *one.shape[1:]), items=[*one.items, *other.items])
        for one, other in zip(*pair, strict=True)
    ]
    return read_answer(target.infer(json_message(stacked))).outputs
