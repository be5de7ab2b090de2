"""The engine's face: what the surfaces call."""

from server.metrics import Metrics
from server.records import InferAnswer, InferRequest
from server.repository import Repository
from server.settings import Settings


class Engine:
    """Answers requests with the families of one repository on one device.

    All methods belong to one event loop. Lifetime: `start`, any number of `infer`, `drain`.
    """

    repository: Repository

    async def start(self) -> None:
        """Load and warm every family of the repository, newest version each, then become ready."""
        raise NotImplementedError

    async def infer(self, request: InferRequest) -> InferAnswer:
        """Answer a request, every sample of it, or raise; counts the outcome in the metrics exactly once.

        Cancelling the awaiting task takes the request's samples out of the queue and disturbs no other.
        Raises: BadRequest (pixels that do not fit the model, a budget that cannot be met by any cap), NotFound,
        ModelNotReady, Overloaded, Draining, DeadlineExceeded, BackendFailed.
        """
        raise NotImplementedError

    async def drain(self, timeout_s: float) -> int:
        """Refuse new requests, finish the accepted ones and stop; return how many were failed at the timeout."""
        raise NotImplementedError

    @property
    def is_ready(self) -> bool:
        """Say whether requests are admitted: started, at least one family loaded, not draining."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """Return the provider that really runs the graphs, for instance `CPUExecutionProvider`; "none" if none does."""
        raise NotImplementedError

    @property
    def num_pending(self) -> int:
        """Return the samples admitted and not yet answered."""
        raise NotImplementedError


def build_engine(settings: Settings, metrics: Metrics) -> Engine:
    """Return an engine with the repository and backend that the settings name, not yet started."""
    raise NotImplementedError
