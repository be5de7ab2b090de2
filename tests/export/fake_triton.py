"""What the router uses of `triton_python_backend_utils`, over models that are plain functions."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import export

Arrays = dict[str, Any]


@dataclass
class Tensor:
    label: str
    value: Any

    def name(self) -> str:
        return self.label

    def as_numpy(self) -> Any:
        return self.value


@dataclass
class TritonError:
    text: str
    code: int = 1
    INVALID_ARG = 3

    def message(self) -> str:
        return self.text


@dataclass
class InferenceResponse:
    tensors: list[Tensor]
    failure: TritonError | None = None

    def has_error(self) -> bool:
        return self.failure is not None

    def error(self) -> TritonError | None:
        return self.failure

    def arrays(self) -> Arrays:
        assert self.failure is None, self.failure
        return {tensor.name(): tensor.as_numpy() for tensor in self.tensors}


@dataclass
class Request:
    """A request as it reaches the router."""

    tensors: list[Tensor]
    options: str = "{}"

    def parameters(self) -> str:
        return self.options


@dataclass
class FakeTriton:
    """The models behind the router, and every call that it made of them."""

    models: dict[str, Callable[[Arrays], Arrays]]
    calls: list[tuple[str, int, Arrays]] = field(default_factory=list)
    num_running: int = 0
    max_running: int = 0

    async def run(self, model: str, version: int, feeds: Arrays, outputs: list[str]) -> InferenceResponse:
        self.calls.append((model, version, feeds))
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        await asyncio.sleep(0)
        self.num_running -= 1
        try:
            answer = self.models[model](feeds)
        except ValueError as error:
            return InferenceResponse([], TritonError(str(error)))
        return InferenceResponse([Tensor(name, answer[name]) for name in outputs])

    def rows(self, model: str) -> list[int]:
        """The batch sizes of a model's calls."""
        return [len(next(iter(feeds.values()))) for name, _, feeds in self.calls if name == model]


def load_router(triton: FakeTriton, folder: Path) -> Any:
    """Return an instance of the published router, initialised as Triton does."""
    utils = ModuleType("triton_python_backend_utils")

    class InferenceRequest:
        def __init__(self, *, model_name, model_version, inputs, requested_output_names, preferred_memory) -> None:
            assert preferred_memory == ("memory", 0)
            feeds = {tensor.name(): tensor.as_numpy() for tensor in inputs}
            assert all(value.flags["C_CONTIGUOUS"] for value in feeds.values())
            self.call = (model_name, model_version, feeds, requested_output_names)

        async def async_exec(self) -> InferenceResponse:
            return await triton.run(*self.call)

    parts = {
        "Tensor": Tensor,
        "TritonError": TritonError,
        "InferenceRequest": InferenceRequest,
        "InferenceResponse": InferenceResponse,
        "TRITONSERVER_MEMORY_CPU": "memory",
        "PreferredMemory": lambda *where: where,
        "get_input_tensor_by_name": _by_name,
        "get_output_tensor_by_name": _by_name,
    }
    for name, part in parts.items():
        setattr(utils, name, part)
    spec = importlib.util.spec_from_file_location("router_under_test", Path(export.__file__).with_name("router.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["triton_python_backend_utils"] = utils
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["triton_python_backend_utils"]
    router = module.TritonPythonModel()
    router.initialize({"model_repository": str(folder.parent), "model_version": folder.name})
    return router


def _by_name(holder: Request | InferenceResponse, name: str) -> Tensor | None:
    return next((tensor for tensor in holder.tensors if tensor.name() == name), None)


def request(image: Any, caps: list[int] | None = None, **parameters: object) -> Request:
    """Return a request for images, with a cap for each where given."""
    tensors = [Tensor("image", image)]
    if caps is not None:
        tensors.append(Tensor("max_tape", np.array(caps, np.int32)[:, None]))
    return Request(tensors, json.dumps(parameters))
