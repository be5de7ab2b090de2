"""The address of one Triton, or of several that serve the same: its channel, and whether it is up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from server.errors import BackendFailed, ModelNotReady, ServeError, Unavailable

Arrays = Mapping[str, NDArray[Any]]

RETRY_S = 1.0
"""The Retry-After of refusals: a Triton that is up again is found within about this time."""
PROBE_S = 1.0
"""How long Triton may take to say whether it is ready."""
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A Triton that is up again is to be found at once, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A name may lead to several Tritons, as a headless Service does: calls go to each in turn, and when a connection
    # ends the name is looked up again.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
]


_FAILED = {"StatusCode.INTERNAL", "StatusCode.UNKNOWN"}


class TryAnotherTriton(Exception):
    """This Triton refused, aborted or failed the call; another may run it. `failure` is the error if none does."""

    def __init__(self, failure: ServeError) -> None:
        super().__init__(str(failure))
        self.failure = failure


class TritonAddress:
    """One Triton's address.

    `is_up` is False from the first error of the connection until a probe finds it ready again. `is_suspect` is True
    from a failed execution, which may be the fault of the call, until a call succeeds or a probe finds it ready.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = False
        self.is_suspect = False
        self.num_running = 0
        self._client = triton.InferenceServerClient(name, channel_args=_CHANNEL)

    def probe(self) -> bool:
        """Ask whether it is ready, set `is_up` to the answer, and return it."""
        try:
            self.is_up = bool(self._client.is_server_ready(client_timeout=PROBE_S))
        except InferenceServerException:
            self.is_up = False
        self.is_suspect = self.is_suspect and not self.is_up
        return self.is_up

    def run(self, model: str, version: str, feeds: Arrays, outputs: list[str], timeout_s: float) -> list[NDArray[Any]]:
        """Run a model on a batch.

        Raises: TryAnotherTriton if it cannot be reached (then `is_up` is False), does not serve the model, or fails
        (then `is_suspect` is True); Unavailable if no answer came in time; BackendFailed.
        """
        try:
            answer = self._client.infer(
                model,
                [_to_input(name, array) for name, array in feeds.items()],
                model_version=version,
                outputs=[triton.InferRequestedOutput(name) for name in outputs],
                client_timeout=timeout_s,
            )
        except InferenceServerException as error:
            raise self._to_failure(error, f"{model} version {version}", timeout_s) from error
        self.is_suspect = False
        return [_to_array(answer, name, model) for name in outputs]

    def close(self) -> None:
        self._client.close()

    def _to_failure(
        self, error: InferenceServerException, what: str, timeout_s: float
    ) -> TryAnotherTriton | ServeError:
        """Return a client's exception as an error of ours, and update `is_up` and `is_suspect` by it."""
        status, text = error.status(), f"{self.name} said: {error.message()}"
        if status == "StatusCode.UNAVAILABLE":
            self.is_up = False
            return TryAnotherTriton(Unavailable("Triton", text, "one that is ready", retry_after_s=RETRY_S))
        if status == "StatusCode.DEADLINE_EXCEEDED":
            self.is_up = False
            got = f"no answer of {self.name} for {what}"
            return Unavailable("Triton", got, f"one within {timeout_s:.3g} s", retry_after_s=RETRY_S)
        if status == "StatusCode.NOT_FOUND":
            return TryAnotherTriton(ModelNotReady("Triton", text, f"one that serves {what}", retry_after_s=RETRY_S))
        failure = BackendFailed("Triton", text, f"an answer of {what}")
        if status not in _FAILED:
            return failure
        self.is_suspect = True
        return TryAnotherTriton(failure)


def _to_input(name: str, array: NDArray[Any]) -> Any:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    made.set_data_from_numpy(np.ascontiguousarray(array))
    return made


def _to_array(answer: Any, name: str, model: str) -> NDArray[Any]:
    array = answer.as_numpy(name)
    if array is None:
        raise BackendFailed("Triton", f"no {name}", f"the outputs of {model}")
    made: NDArray[Any] = array
    return made
