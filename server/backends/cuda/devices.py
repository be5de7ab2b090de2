"""GPUs: the thread of each, and how many calls run on it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as status

from server.errors import BackendFailed, OutOfMemory

T = TypeVar("T")
DeviceKind = Literal["cuda", "cpu"]
PROVIDERS: Mapping[DeviceKind, str] = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_OUT_OF_MEMORY = ("out of memory", "failed to allocate memory")


class DeviceMissing(BackendFailed):
    """The session runs with another provider, or on another device, than was asked for."""


class Device:
    """One GPU, and the thread that all its work runs on. `kind` cpu is for tests: the same calls without a GPU."""

    def __init__(self, number: int, kind: DeviceKind = "cuda") -> None:
        self.number = number
        self.kind: DeviceKind = kind
        self.num_running = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{kind}-{number}")

    def run(self, work: Callable[[], T]) -> T:
        """Run some work on the device's thread and return its result.

        Raises: OutOfMemory if the message of onnxruntime's error says so.
        """
        try:
            return self._thread.submit(work).result()
        except (status.Fail, status.RuntimeException) as error:
            text = str(error)
            if any(sign in text.lower() for sign in _OUT_OF_MEMORY):
                raise OutOfMemory(f"memory of device {self.number}", text, "a batch that fits") from error
            raise

    def buffer(self, shape: Sequence[int], dtype: type[np.generic]) -> Any:
        """Return a buffer in the device's memory."""
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype, self.kind, self.number)

    def providers(self, *, records: bool) -> list[Any]:
        """Return the providers to ask onnxruntime for; fp32 means fp32, not the shorter TF32."""
        if self.kind == "cpu":
            return [PROVIDERS["cpu"]]
        options = {
            "device_id": str(self.number),
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": "1" if records else "0",
        }
        return [(PROVIDERS["cuda"], options), PROVIDERS["cpu"]]

    def check(self, session: Any) -> None:
        """Return if a session really runs here.

        Raises: DeviceMissing; onnxruntime itself falls back in silence.
        """
        wanted, got = PROVIDERS[self.kind], session.get_providers()[0]
        if got != wanted:
            raise DeviceMissing("device", got, f"{wanted}, which onnxruntime could not use")
        number = session.get_provider_options()[got].get("device_id", str(self.number))
        if number != str(self.number):
            raise DeviceMissing("device", f"number {number}", f"number {self.number}")


class Devices:
    """The devices of one server, and how busy each is; all its families share them."""

    def __init__(self, numbers: Sequence[int], kind: DeviceKind = "cuda") -> None:
        self.kind: DeviceKind = kind
        self.all = [Device(number, kind) for number in numbers]
        self._lock = threading.Lock()

    @contextmanager
    def least_loaded(self) -> Iterator[tuple[int, Device]]:
        """Give the least loaded device with its index, counted as one call busier until the context ends."""
        with self._lock:
            index = min(range(len(self.all)), key=lambda place: self.all[place].num_running)
            device = self.all[index]
            device.num_running += 1
        try:
            yield index, device
        finally:
            with self._lock:
                device.num_running -= 1
