"""The router of a family on Triton Inference Server: reader, then for each bucket its trunk.

Published as `<family>/<version>/model.py`; reads `manifest.json` beside it; needs numpy and nothing else.

Rows of all requests of a batch are read together, those that read no tape apart from the others, and then
answered together with the rows of their bucket; all calls of a stage run at the same time.
A request's cap is the smaller of its `max_tape` input and its `max_tape` parameter; without either there is none.

Shape legend: B rows, C classes.
"""

import asyncio
import json
from collections.abc import Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton brings it

Arrays = dict[str, Any]
"""Outputs of a model by name."""

READING = ("hidden", "tape", "tape_length", "tape_length_wanted")


class StageError(Exception):
    """A model that the router calls answered with an error."""


class Refused(Exception):
    """A request that no model could answer."""


class TritonPythonModel:
    """One instance of the router."""

    def initialize(self, args: dict[str, str]) -> None:
        """Learn from the manifest which models to call."""
        folder = Path(args["model_repository"]) / args["model_version"]
        manifest = json.loads((folder / "manifest.json").read_text())
        self.version = int(manifest["version"])
        self.capacity: int = manifest["tape_capacity"]
        self.buckets: list[int] = manifest["buckets"]
        self.reader: str = manifest["reader"]["name"]
        self.input = "symbols" if manifest.get("symbols") else "image"
        self.trunks: list[str] = [trunk["name"] for trunk in manifest["trunks"]]
        self.flops: dict[str, Any] = manifest["flops"]

    async def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request of a batch, each with its outputs or its own error."""
        parsed = [self._parsed(request) for request in requests]
        accepted = [parts for parts in parsed if not isinstance(parts, Refused)]
        answers = iter(await self._answers(accepted) if accepted else [])
        return [_refusal(parts) if isinstance(parts, Refused) else next(answers) for parts in parsed]

    def _parsed(self, request: Any) -> tuple[Any, Any] | Refused:
        """Return a request's samples and the cap of each."""
        inputs_BX = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
        cap_B = np.full(len(inputs_BX), self.capacity)
        asked = pb_utils.get_input_tensor_by_name(request, "max_tape")
        if asked is not None:
            cap_B = np.minimum(cap_B, asked.as_numpy()[:, 0])
        parameter = json.loads(request.parameters() or "{}").get("max_tape", self.capacity)
        if isinstance(parameter, bool) or not isinstance(parameter, int):
            return Refused(f"max_tape; got {parameter!r}; expected an integer of 0 or more")
        cap_B = np.minimum(cap_B, parameter)
        if cap_B.min() < 0:
            return Refused(f"max_tape; got {cap_B.min()}; expected an integer of 0 or more")
        return inputs_BX, cap_B

    async def _answers(self, accepted: list[tuple[Any, Any]]) -> list[Any]:
        """Return one response a request, in order."""
        inputs_BX = np.concatenate([inputs for inputs, _ in accepted])
        cap_B = np.concatenate([caps for _, caps in accepted])
        errors: dict[int, str] = {}
        reading = await self._read(inputs_BX, cap_B, errors)
        answer = await self._run_trunks(reading, errors) if reading else {}
        outputs = self._outputs(answer["logits"], reading, cap_B) if answer else {}
        responses, start = [], 0
        for inputs, _ in accepted:
            rows = range(start, start + len(inputs))
            responses.append(_response(outputs, rows, errors))
            start = rows.stop
        return responses

    async def _read(self, inputs_BX: Any, cap_B: Any, errors: dict[int, str]) -> Arrays:
        """Run the reader, once for the rows that read and once for those that do not."""
        groups = _groups(cap_B > 0, range(len(cap_B)))
        max_tape_B1 = cap_B[:, None].astype(np.int32)
        calls = [
            self._call(self.reader, {self.input: inputs_BX[rows], "max_tape": max_tape_B1[rows]}, READING)
            for rows in groups.values()
        ]
        return await _merged(groups.values(), calls, len(cap_B), errors)

    async def _run_trunks(self, reading: Arrays, errors: dict[int, str]) -> Arrays:
        """Run for each bucket the rows whose tape it is the smallest to hold."""
        index_B = np.searchsorted(self.buckets, reading["tape_length"][:, 0])
        groups = _groups(index_B, [row for row in range(len(index_B)) if row not in errors])
        calls = [
            self._call(self.trunks[index], _trunk_feeds(reading, rows, self.buckets[index]), ("logits",))
            for index, rows in groups.items()
        ]
        return await _merged(groups.values(), calls, len(index_B), errors)

    async def _call(self, model: str, feeds: Arrays, outputs: tuple[str, ...]) -> Arrays:
        """Run a model, in the router's own version."""
        request = pb_utils.InferenceRequest(
            model_name=model,
            model_version=self.version,
            inputs=[pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in feeds.items()],
            requested_output_names=list(outputs),
            preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = await request.async_exec()
        if response.has_error():
            raise StageError(f"{model}: {response.error().message()}")
        return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}

    def _outputs(self, logits_BC: Any, reading: Arrays, cap_B: Any) -> Arrays:
        exp_BC = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
        flops_B = self._useful_flops(reading["tape_length"][:, 0], cap_B)
        return {
            "logits": logits_BC,
            "probabilities": exp_BC / exp_BC.sum(axis=1, keepdims=True),
            "tape_length": reading["tape_length"],
            "tape_length_wanted": reading["tape_length_wanted"],
            "flops": flops_B[:, None],
        }

    def _useful_flops(self, length_B: Any, cap_B: Any) -> Any:
        """Return what each row's answer needed, whatever its bucket."""
        flops = self.flops
        read_B = np.where(cap_B > 0, flops["bank"] + length_B.astype(np.int64) * flops["read_step"], 0)
        return flops["embed"] + read_B + np.array(flops["trunk"], np.int64)[length_B]


def _groups(key_B: Any, rows: Iterable[int]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for row in rows:
        groups.setdefault(key_B[row], []).append(row)
    return groups


def _trunk_feeds(reading: Arrays, rows: list[int], bucket: int) -> Arrays:
    hidden = {"hidden": reading["hidden"][rows]}
    if bucket == 0:
        return hidden
    return hidden | {"tape": reading["tape"][rows, :bucket], "tape_length": reading["tape_length"][rows]}


async def _merged(
    groups: Collection[list[int]], calls: list[Coroutine[Any, Any, Arrays]], num_rows: int, errors: dict[int, str]
) -> Arrays:
    """Run calls at the same time and put their outputs back in the order of rows.

    Rows of a call that fails are noted in `errors`; nothing comes back if all fail.
    """
    merged: Arrays = {}
    for rows, result in zip(groups, await asyncio.gather(*calls, return_exceptions=True), strict=True):
        if isinstance(result, StageError):
            errors.update(dict.fromkeys(rows, str(result)))
        elif isinstance(result, BaseException):
            raise result
        else:
            for name, value in result.items():
                merged.setdefault(name, np.zeros((num_rows, *value.shape[1:]), value.dtype))[rows] = value
    return merged


def _response(outputs: Arrays, rows: range, errors: dict[int, str]) -> Any:
    failed = next((errors[row] for row in rows if row in errors), None)
    if failed is not None:
        return pb_utils.InferenceResponse([], pb_utils.TritonError(failed))
    tensors = [pb_utils.Tensor(name, value[rows.start : rows.stop]) for name, value in outputs.items()]
    return pb_utils.InferenceResponse(tensors)


def _refusal(refused: Refused) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(str(refused), pb_utils.TritonError.INVALID_ARG))
