"""The server's Prometheus metrics."""

from prometheus_client import CollectorRegistry

from server.errors import ServeError


class Metrics:
    """Everything `/metrics` shows, on a registry of its own.

    `Engine.infer` counts the requests that reach it; a surface counts those that it refuses itself with `refused`.
    All methods belong to the event loop's thread.
    """

    registry: CollectorRegistry

    def refused(self, error: ServeError, *, protocol: str) -> None:
        """Count a request that a surface refused before the engine saw it (bad image, unknown path, ...)."""
        raise NotImplementedError

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the exposition in the format that an Accept header asks for, and its content type."""
        raise NotImplementedError
