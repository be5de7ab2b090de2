import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from server.metrics import gpu
from server.metrics.gpu import FIGURES, GpuCollector


class NoSuchFigure(Exception):
    """What the library raises."""


def library(*, num_gpus=1, is_broken=False):
    def refuse(_):
        raise NoSuchFigure("not supported")

    def start():
        if is_broken:
            raise NoSuchFigure("no driver")

    return SimpleNamespace(
        NVMLError=NoSuchFigure,
        nvmlInit=start,
        nvmlDeviceGetCount=lambda: num_gpus,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}".encode() if index else "GPU-0",
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=3 * 2**30, total=80 * 2**30),
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=25),
        nvmlDeviceGetPowerUsage=lambda _: 90_500,
        nvmlDeviceGetEnforcedPowerLimit=refuse,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: 1_000_500,
    )


@pytest.fixture
def collect(monkeypatch):
    def run(nvml):
        monkeypatch.setitem(sys.modules, gpu.LIBRARY, nvml)
        monkeypatch.setattr(gpu, "find_spec", lambda _: nvml)
        return {
            (sample.name, sample.labels["gpu_uuid"]): sample.value
            for family in GpuCollector().collect()
            for sample in family.samples
        }

    return run


def test_figures_are_in_base_units(collect):
    figures = collect(library())
    assert figures["adatape_gpu_utilization_ratio", "GPU-0"] == 0.25
    assert figures["adatape_gpu_power_watts", "GPU-0"] == 90.5
    assert figures["adatape_gpu_energy_joules_total", "GPU-0"] == 1000.5
    assert figures["nv_gpu_memory_used_bytes", "GPU-0"] == 3 * 2**30


def test_every_gpu_is_shown_and_a_figure_it_lacks_is_not(collect):
    figures = collect(library(num_gpus=2))
    assert {uuid for _, uuid in figures} == {"GPU-0", "GPU-1"}
    assert {name for name, _ in figures} == set(FIGURES) - {"adatape_gpu_power_limit_watts"}


def test_nothing_is_shown_without_a_driver_or_a_library(collect):
    assert collect(library(is_broken=True)) == {}
    assert collect(None) == {}


def test_the_text_is_rendered(monkeypatch, collect):
    collect(library())
    registry = CollectorRegistry()
    registry.register(GpuCollector())
    assert b'adatape_gpu_utilization_ratio{gpu_uuid="GPU-0"} 0.25' in generate_latest(registry)
