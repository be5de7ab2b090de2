"""From settings to an engine."""

from server.backends.base import Backend
from server.backends.fake import FakeBackend, fake_manifest
from server.controller import Controller, MakePolicy
from server.engine.engine import Engine
from server.metrics import Metrics
from server.repository import Repository
from server.settings import Settings


def build_engine(settings: Settings, metrics: Metrics, make_policy: MakePolicy = Controller) -> Engine:
    """Return an engine with the repository and backend that the settings name, not yet started.

    `make_policy` gives what keeps the service level, if the settings set one.
    Raises: ValueError if the model repository is no folder.
    """
    if settings.backend == "fake":
        builtin, backend = Repository(None, builtin=[fake_manifest()]), FakeBackend(settings.fake_faults)
        return Engine(builtin, backend, metrics, settings, make_policy=make_policy)
    repository = Repository(settings.model_repository)
    return Engine(repository, _build_backend(settings), metrics, settings, make_policy=make_policy)


def _build_backend(settings: Settings) -> Backend:
    """Return the backend that runs a repository's graphs; only what it needs is imported."""
    if settings.backend == "triton":
        from server.backends.triton import TritonBackend

        return TritonBackend(settings.triton_addresses, timeout_s=settings.triton_timeout_s)
    from server.backends.ort import OrtBackend

    return OrtBackend(settings.model_repository, num_threads=settings.num_threads, device=settings.device)
