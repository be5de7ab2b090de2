"""From settings to an engine."""

from typing import TYPE_CHECKING

from server.backends.base import Backend
from server.backends.fake import FakeBackend, fake_manifest
from server.controller import Controller, MakePolicy
from server.engine.engine import Engine
from server.metrics import Metrics
from server.models.repository import Repository
from server.settings import Settings

if TYPE_CHECKING:
    from server.metrics.tracing import Tracer
    from server.tenancy import Tenancy


def build_engine(settings: Settings, metrics: Metrics, make_policy: MakePolicy = Controller) -> Engine:
    """Return an engine with the repository and backend that the settings name, not yet started.

    `make_policy` gives what keeps the service level, if the settings set one.
    Raises: ValueError if the model repository is no folder, or the tenants cannot be read.
    """
    is_fake = settings.backend == "fake"
    repository = Repository(None, builtin=[fake_manifest()]) if is_fake else Repository(settings.model_repository)
    backend = FakeBackend(settings.fake_faults) if is_fake else _build_backend(settings, metrics)
    tenancy = _build_tenancy(settings, metrics)
    tracer = _build_tracer(settings)
    return Engine(repository, backend, metrics, settings, make_policy=make_policy, tenancy=tenancy, tracer=tracer)


def _build_tracer(settings: Settings) -> "Tracer | None":
    """Return what sends traces, if the settings name a collector."""
    if settings.otlp_endpoint is None:
        return None
    from server.metrics.tracing import Tracer

    return Tracer(settings.otlp_endpoint)


def _build_tenancy(settings: Settings, metrics: Metrics) -> "Tenancy | None":
    """Return what tells callers apart, if the settings ask for it."""
    if not settings.asks_who_calls:
        return None
    from server.tenancy import Tenancy

    return Tenancy(settings, metrics)


def _build_backend(settings: Settings, metrics: Metrics) -> Backend:
    """Return the backend that runs a repository's graphs; only what it needs is imported."""
    if settings.backend == "triton":
        from server.backends.triton import TritonBackend

        return TritonBackend(settings.triton_addresses, timeout_s=settings.triton_timeout_s, metrics=metrics)
    from server.backends.ort import OrtBackend, is_cuda_offered

    cpu = OrtBackend(settings.model_repository, num_threads=settings.num_threads)
    if settings.device == "cpu" or (settings.device == "auto" and not is_cuda_offered()):
        return cpu
    from server.backends.cuda import CudaBackend, CudaOrCpuBackend, Devices

    cuda = CudaBackend(
        settings.model_repository,
        Devices(settings.device_numbers),
        num_threads=settings.num_threads,
        records=settings.cuda_graphs,
    )
    return cuda if settings.device == "cuda" else CudaOrCpuBackend(cuda, cpu)
