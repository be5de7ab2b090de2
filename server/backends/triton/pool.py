"""Several Tritons that serve the same models: a call goes to the least loaded one that is up.

    up ── call refused, or too late ──> down ── probe finds it ready ──> up
    up ── call failed ──> suspect: used only if no other is up ── call succeeds, or probe finds it ready ──> up

Without this, a Triton that fails every call at once would always be the least loaded, and would get every call. While
none is up, calls are refused at once. Probes run all the time, so readiness follows that of the Tritons.
"""

import logging
import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from server.backends.base import EXECUTION_TIMEOUT_S
from server.backends.triton.address import RETRY_S, Arrays, TritonAddress, TryAnotherTriton
from server.errors import BackendFailed, ServeError, Unavailable
from server.metrics import Metrics
from server.process.background_tasks import FailureLog, run_repeatedly

_log = logging.getLogger("adatape.triton")

PROBE_EVERY_S = 0.5
MAX_FAILED = 2
"""A call is tried on so many Tritons at most; if it fails on all of them, the call is at fault."""


class TritonPool:
    """The Tritons of one server. `run` may be called from several threads at once."""

    def __init__(
        self,
        addresses: Sequence[TritonAddress],
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
        """Say whether any Triton is up."""
        return any(address.is_up for address in self._addresses)

    def run(self, model: str, version: str, feeds: Arrays, outputs: list[str]) -> list[NDArray[Any]]:
        """Run a model on a batch, on the least loaded Triton.

        Graphs change nothing, so a call that a Triton did not take, or that broke off with its connection, is tried
        once on each other Triton, and one that failed on one other. One that did not end in time is not tried again:
        the work may still be running.
        Raises: Unavailable with a time to retry; ModelNotReady; BackendFailed.
        """
        timeout_s = EXECUTION_TIMEOUT_S.get() or self._timeout_s
        tried: list[TritonAddress] = []
        num_failed = 0
        failure: ServeError | None = None
        while num_failed < MAX_FAILED and (address := self._take(tried)) is not None:
            tried.append(address)
            try:
                return address.run(model, version, feeds, outputs, timeout_s)
            except TryAnotherTriton as error:
                failure = error.failure
                if isinstance(failure, BackendFailed):
                    num_failed += 1
                    _log.warning("triton_failed address=%s reason=%r", address.name, str(failure))
            finally:
                self._give_back(address)
        raise failure or self._none_up()

    def close(self) -> None:
        """Stop probing, and close the channels."""
        self._closing.set()
        self._prober.join()
        for address in self._addresses:
            address.close()

    def _take(self, tried: Sequence[TritonAddress]) -> TritonAddress | None:
        """Return the address for the next call, counted as one call busier."""
        with self._lock:
            free = [address for address in self._addresses if address.is_up and address not in tried]
            if not free:
                return None
            chosen = min(free, key=lambda address: (address.is_suspect, address.num_running))
            chosen.num_running += 1
            return chosen

    def _give_back(self, address: TritonAddress) -> None:
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
