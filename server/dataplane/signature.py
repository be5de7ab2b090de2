"""What a model takes and gives, and the check of a request's inputs and outputs against it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.dataplane.tensors import (
    BYTES,
    InputTensor,
    RequestedOutput,
    numbers_from_raw,
    numbers_from_values,
    strings_from_raw,
    strings_from_values,
)
from server.errors import BadRequest
from server.models.manifest import Manifest
from server.records import Inputs


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output; `dims` leave out the batch."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    has_labels: bool = False

    @property
    def expected(self) -> str:
        return f"{self.datatype} [batch, {', '.join(map(str, self.dims))}]"


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """The samples of one request: as the reader takes them, or encoded images that are decoded later.

    Shapes: inputs_BX; max_tape_B, where given, one cap a sample.
    """

    inputs_BX: Inputs | None
    encoded_B: list[bytes] | None
    max_tape_B: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class InputLayout:
    """The position of each known input among the inputs of a request; None where it is absent."""

    direct: int | None
    encoded: int | None
    max_tape: int | None

    def decode(self, inputs: Sequence[InputTensor]) -> TensorBatch:
        """Read the data of inputs that have this layout.

        Raises: BadRequest, naming the input, what came and what was expected.
        """
        return TensorBatch(
            inputs_BX=None if self.direct is None else _numbers(inputs[self.direct]),
            encoded_B=None if self.encoded is None else _strings(inputs[self.encoded]),
            max_tape_B=None if self.max_tape is None else tuple(_numbers(inputs[self.max_tape]).ravel().tolist()),
        )


class Signature:
    """A model's inputs and outputs, and the largest batch that one request may hold."""

    def __init__(self, manifest: Manifest, max_batch_size: int) -> None:
        num_classes = len(manifest.labels)
        self.labels = manifest.labels
        self.max_batch_size = max_batch_size
        direct = manifest.input
        self.direct = TensorSpec(direct.name, direct.dtype.upper(), direct.shape)
        """The samples as the reader takes them."""
        encoded = (TensorSpec("encoded", BYTES, (1,)),) if manifest.preprocessing else ()
        self.inputs = (self.direct, *encoded, TensorSpec("max_tape", "INT32", (1,)))
        self.outputs = (
            TensorSpec("logits", "FP32", (num_classes,), has_labels=True),
            TensorSpec("probabilities", "FP32", (num_classes,), has_labels=True),
            TensorSpec("tape_length", "INT32", (1,)),
            TensorSpec("tape_length_wanted", "INT32", (1,)),
            TensorSpec("flops", "INT64", (1,)),
        )
        self._inputs = {spec.name: spec for spec in self.inputs}
        self._outputs = {spec.name: spec for spec in self.outputs}
        self._all_outputs = tuple((spec, 0) for spec in self.outputs)

    def arrange(self, inputs: Sequence[InputTensor]) -> "InputLayout":
        """Check the inputs, all but their data, and return their layout.

        Raises: BadRequest, naming the input, what came and what was expected.
        """
        places: dict[str, int] = {}
        for place, tensor in enumerate(inputs):
            spec = self._inputs.get(tensor.name)
            if spec is None:
                raise BadRequest("input", tensor.name, f"any of {', '.join(self._inputs)}")
            if tensor.name in places:
                raise BadRequest(f"input {tensor.name}", "it more than once", "each input once")
            self._check(tensor, spec)
            places[tensor.name] = place
        direct, encoded, max_tape = places.get(self.direct.name), places.get("encoded"), places.get("max_tape")
        sole = encoded if direct is None else direct
        if sole is None and "encoded" not in self._inputs:
            raise BadRequest("inputs", f"no {self.direct.name}", self.direct.expected)
        if sole is None or (direct is not None and encoded is not None):
            got = "neither image nor encoded" if sole is None else "image and encoded"
            raise BadRequest("inputs", got, "one of the two")
        if max_tape is not None and inputs[max_tape].shape[0] != inputs[sole].shape[0]:
            expected = f"[{inputs[sole].shape[0]}, 1], one cap for each sample of {inputs[sole].name}"
            raise BadRequest("shape of input max_tape", list(inputs[max_tape].shape), expected)
        return InputLayout(direct, encoded, max_tape)

    def choose(self, outputs: Sequence[RequestedOutput]) -> Sequence[tuple[TensorSpec, int]]:
        """Return the outputs of the response, each with its number of classes; all outputs if none is named.

        Raises: BadRequest for an unknown output, one named twice, or classes of what has none.
        """
        if not outputs:
            return self._all_outputs
        names: set[str] = set()
        for output in outputs:
            spec = self._outputs.get(output.name)
            if spec is None:
                raise BadRequest("output", output.name, f"any of {', '.join(self._outputs)}")
            if output.name in names:
                raise BadRequest(f"output {output.name}", "it more than once", "each output once")
            names.add(output.name)
            if output.num_classes > 0 and not spec.has_labels:
                raise BadRequest(f"classification of output {output.name}", output.num_classes, "an output of classes")
        return [(self._outputs[output.name], output.num_classes) for output in outputs]

    def _check(self, tensor: InputTensor, spec: TensorSpec) -> None:
        """Check a tensor's datatype and shape, not its data."""
        shape = tensor.shape
        if tensor.datatype != spec.datatype:
            raise BadRequest(f"datatype of input {spec.name}", tensor.datatype, spec.datatype)
        if len(shape) != len(spec.dims) + 1 or tuple(shape[1:]) != spec.dims:
            raise BadRequest(f"shape of input {spec.name}", list(shape), spec.expected)
        if not 1 <= shape[0] <= self.max_batch_size:
            raise BadRequest(f"batch of input {spec.name}", shape[0], f"1 to {self.max_batch_size} samples")


def _numbers(tensor: InputTensor) -> np.ndarray[Any, Any]:
    what = f"input {tensor.name}"
    if tensor.raw is not None:
        return numbers_from_raw(what, tensor.raw, tensor.datatype, tensor.shape)
    return numbers_from_values(what, tensor.values, tensor.datatype, tensor.shape)


def _strings(tensor: InputTensor) -> list[bytes]:
    what = f"input {tensor.name}"
    if tensor.raw is not None:
        return strings_from_raw(what, tensor.raw, tensor.shape)
    return strings_from_values(what, tensor.values, tensor.shape)
