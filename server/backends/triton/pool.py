"""Several Tritons that serve the same models: the least loaded is asked, and one in trouble is left alone.

    up ── call refused or late ──> down ── probe finds it ready ──> up
    up ── call failed ──> suspect: asked only where no other is up ── call ends well, or probe finds it ready ──> up

One that fails every call at once would otherwise be the least loaded, and take every call from the others. While none
is up, calls are refused at once. Probing goes on all the time, so readiness follows the Tritons' own.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from server.backends.base import PATIENCE_S
from server.backends.triton.address import RETRY_S, Address, Arrays, NotTaken
from server.errors import BackendFailed, ServeError, Unavailable
from server.metrics import Metrics
from server.process.background_tasks import FailureLog, run_repeatedly

_log = logging.getLogger("adatape.triton")

PROBE_EVERY_S = 0.5
MAX_FAILED = 2
"""On how many Tritons a call may fail; after that it is the call's own fault."""


class Pool:
    """The addresses. `run` may be called from several threads at once."""

    def __init__(
        self,
        addresses: Sequence[Address],
        timeout_s: float,
        *,
        probe_every_s: float = PROBE_EVERY_S,
        metrics: Metrics | None = None,
    ) -> None:
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._probe_every_s = probe_every_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._failures = FailureLog("triton", metrics or Metrics())
        self._was_up = {address.name: address.probe() for address in addresses}
        for name, is_up in self._was_up.items():
            _log.info("triton_%s address=%s", "up" if is_up else "down", name)
        self._prober = threading.Thread(target=self._keep_probing, name="triton-prober", daemon=True)
        self._prober.start()

    @property
    def is_up(self) -> bool:
        """Say whether any Triton can be asked."""
        return any(address.is_up for address in self._addresses)

    def run(self, model: str, version: str, feeds: Arrays, outputs: list[str]) -> list[NDArray[Any]]:
        """Run a model on a batch, on the least loaded Triton.

        Graphs change nothing, so a call that a Triton did not take, or that broke off with its connection, is tried
        once on each other, and one that failed on one other. One that came to no end in time is not: the work may
        still be going on.
        Raises: Unavailable with a time to retry; ModelNotReady; BackendFailed.
        """
        timeout_s = PATIENCE_S.get() or self._timeout_s
        tried: list[Address] = []
        num_failed = 0
        failure: ServeError | None = None
        while num_failed < MAX_FAILED and (address := self._take(tried)) is not None:
            tried.append(address)
            try:
                return address.run(model, version, feeds, outputs, timeout_s)
            except NotTaken as error:
                failure = error.failure
                if isinstance(failure, BackendFailed):
                    num_failed += 1
                    _log.warning("triton_failed address=%s reason=%r", address.name, str(failure))
            finally:
                self._give_back(address)
        raise failure or self._none_up()

    def close(self) -> None:
        """Probe no more and close the channels."""
        self._closing.set()
        self._prober.join()
        for address in self._addresses:
            address.close()

    def _take(self, tried: Sequence[Address]) -> Address | None:
        """Return the address to ask next, one call busier."""
        with self._lock:
            free = [address for address in self._addresses if address.is_up and address not in tried]
            if not free:
                return None
            chosen = min(free, key=lambda address: (address.is_suspect, address.num_running))
            chosen.num_running += 1
            return chosen

    def _give_back(self, address: Address) -> None:
        with self._lock:
            address.num_running -= 1

    def _none_up(self) -> Unavailable:
        names = ", ".join(address.name for address in self._addresses)
        return Unavailable("Triton", f"none ready of {names}", "one that is ready", retry_after_s=RETRY_S)

    def _keep_probing(self) -> None:
        run_repeatedly(self._closing, self._probe_every_s, self._probe, self._failures)

    def _probe(self) -> None:
        for address in self._addresses:
            is_up = address.probe()
            if is_up != self._was_up[address.name]:
                self._was_up[address.name] = is_up
                _log.warning("triton_%s address=%s", "up" if is_up else "down", address.name)
