"""Figures of the GPUs, if NVIDIA's library is installed and finds any; it is imported at the first scrape.

The same figures come a second time under the names that Triton gives them, which perf_analyzer and dashboards for
Triton look for.
"""

import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_log = logging.getLogger("adatape.server")

LIBRARY = "pynvml"
_MILLI = 1e-3
_PERCENT = 0.01

Read = Callable[[Any, Any], float]
"""Takes the library and a device."""


def _used_bytes(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetMemoryInfo(device).used)


def _total_bytes(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetMemoryInfo(device).total)


def _utilization(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetUtilizationRates(device).gpu) * _PERCENT


def _power_watts(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerUsage(device)) * _MILLI


def _power_limit_watts(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetEnforcedPowerLimit(device)) * _MILLI


def _energy_joules(nvml: Any, device: Any) -> float:
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) * _MILLI


FIGURES: dict[str, tuple[str, Read]] = {
    "adatape_gpu_utilization_ratio": ("Share of the last moments in which the GPU was busy", _utilization),
    "adatape_gpu_memory_used_bytes": ("GPU memory in use, by whomever", _used_bytes),
    "adatape_gpu_memory_limit_bytes": ("GPU memory there is", _total_bytes),
    "adatape_gpu_power_watts": ("Power drawn", _power_watts),
    "adatape_gpu_power_limit_watts": ("Power that may be drawn", _power_limit_watts),
    "adatape_gpu_energy_joules_total": ("Energy drawn since the driver was loaded", _energy_joules),
    "nv_gpu_utilization": ("As adatape_gpu_utilization_ratio, under Triton's name", _utilization),
    "nv_gpu_memory_used_bytes": ("As adatape_gpu_memory_used_bytes, under Triton's name", _used_bytes),
    "nv_gpu_memory_total_bytes": ("As adatape_gpu_memory_limit_bytes, under Triton's name", _total_bytes),
    "nv_gpu_power_usage": ("As adatape_gpu_power_watts, under Triton's name", _power_watts),
}


class GpuCollector(Collector):
    """Reads each GPU at every scrape; shows nothing if there is none."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[tuple[str, Any]] | None = None

    def collect(self) -> Iterator[Metric]:
        if self._devices is None:
            self._devices = self._find()
        if not self._devices:
            return
        for name, (about, read) in FIGURES.items():
            family = (CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily)(
                name, about, labels=["gpu_uuid"]
            )
            for uuid, device in self._devices:
                value = self._read(read, device)
                if value is not None:
                    family.add_metric([uuid], value)
            yield family

    def _find(self) -> list[tuple[str, Any]]:
        if find_spec(LIBRARY) is None:
            return []
        nvml = self._nvml = import_module(LIBRARY)
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
            return [(_text(nvml.nvmlDeviceGetUUID(handle)), handle) for handle in handles]
        except nvml.NVMLError as error:
            _log.info("no_gpu_figures reason=%r", str(error))
            return []

    def _read(self, read: Read, device: Any) -> float | None:
        """Return a figure; None where this GPU does not give it."""
        try:
            return read(self._nvml, device)
        except self._nvml.NVMLError:
            return None


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value
