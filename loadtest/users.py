"""The users of `locustfile`, and the counts of their receipts."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc.experimental.gevent
from locust import FastHttpUser, User, constant_throughput, tag, task
from locust.contrib.fasthttp import FastResponse
from locust.env import Environment
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from loadtest.infer_requests import (
    HEADER_LENGTH,
    Answer,
    InferRequest,
    Pictures,
    classify_request,
    infer_request,
    read_binary,
    read_classify,
    to_answer,
)
from loadtest.target import Target

grpc.experimental.gevent.init_gevent()

GRPC_TIMEOUT_S = 30.0
RECEIPT, SLO, IN_TIME = "RECEIPT", "SLO", "answered in time"
"""The types of rows that are no requests, and the name of the one that counts answers in time."""


class Plan:
    """What all users share: who is asked about what, and where receipts are counted."""

    target: Target
    pictures: Pictures
    caps: Sequence[int]
    slo_ms: float | None
    environment: Environment

    def draw(self) -> tuple[int, int]:
        """Return a picture and a cap, both at random."""
        return random.randrange(len(self.pictures)), random.choice(self.caps)

    def name(self, form: str, cap: int) -> str:
        return f"{form} cap {self.target.name_of(cap)}"

    def count(self, name: str, answer: Answer, latency_ms: float) -> None:
        """Count a receipt, and an answer in time. Units: tape tokens, and thousands of FLOPs."""
        stats = self.environment.stats
        receipt = {
            "tape length": answer.tape_length,
            "useful kFLOPs": answer.useful_flops / 1e3,
            "executed kFLOPs": answer.executed_flops / 1e3,
        }
        for field, value in receipt.items():
            # As a request it would enter the totals.
            stats.get(f"{name}: {field}", RECEIPT).log(value, 0)  # type: ignore[arg-type]
        if self.slo_ms is not None and latency_ms <= self.slo_ms:
            stats.get(IN_TIME, SLO).log(latency_ms, 0)  # type: ignore[arg-type]


PLAN = Plan()


def pace(user: User) -> float:
    """Wait so that a user sends `--user-rate` requests a second, or not at all where none is given."""
    rate = user.environment.parsed_options.user_rate
    return constant_throughput(rate)(user) if rate else 0.0


class HttpUser(FastHttpUser):
    """Sends one call after another and reads each receipt."""

    abstract = True
    wait_time = pace

    def send(self, request: InferRequest, name: str, read: Callable[[Any], Answer]) -> None:
        started_s = time.perf_counter()
        body: Any = request.body  # its type says text, its code sends bytes
        headers = {**request.headers, **PLAN.target.headers}
        with self.client.post(request.path, data=body, headers=headers, name=name, catch_response=True) as response:
            if response.status_code == 200:
                PLAN.count(name, read(response), (time.perf_counter() - started_s) * 1e3)
            else:
                response.failure(f"{response.status_code} {_reason(response.text)}")


class ClassifyUser(HttpUser):
    """Posts image files to /v1/classify."""

    @tag("http", "classify")
    @task
    def classify(self) -> None:
        index, cap = PLAN.draw()
        asked = None if cap >= PLAN.target.tape_capacity else cap
        request = classify_request(PLAN.target.model, PLAN.pictures.files[index], asked)
        self.send(request, PLAN.name("classify", cap), lambda response: read_classify(response.content))


class BinaryUser(HttpUser):
    """Posts pixels by the Open Inference Protocol with the binary extension."""

    @tag("http", "binary")
    @task
    def infer(self) -> None:
        index, cap = PLAN.draw()
        request = infer_request(PLAN.target.model, PLAN.pictures.pixels_BHWC[index : index + 1], {"max_tape": cap})
        self.send(request, PLAN.name("binary", cap), _read_binary)


def _read_binary(response: FastResponse) -> Answer:
    headers: Any = response.headers
    return read_binary(response.content, int(headers[HEADER_LENGTH]))


class GrpcUser(User):
    """Calls ModelInfer over gRPC, as NVIDIA's own client does."""

    wait_time = pace

    def on_start(self) -> None:
        target = PLAN.target
        self.client = InferenceServerClient(self.environment.parsed_options.grpc)
        self.image = InferInput("image", [1, target.height, target.width, 3], "UINT8")
        self.outputs = [InferRequestedOutput("logits")]

    def on_stop(self) -> None:
        self.client.close()

    @tag("grpc")
    @task
    def infer(self) -> None:
        index, cap = PLAN.draw()
        name = PLAN.name("grpc", cap)
        self.image.set_data_from_numpy(PLAN.pictures.pixels_BHWC[index : index + 1])
        error, started_s = None, time.perf_counter()
        try:
            result = self.client.infer(
                PLAN.target.model,
                [self.image],
                outputs=self.outputs,
                parameters={"max_tape": cap},
                client_timeout=GRPC_TIMEOUT_S,
                headers=dict(PLAN.target.headers),
            )
        except InferenceServerException as failure:
            error = RuntimeError(f"{failure.status()} {_reason(failure.message())}")
        latency_ms = (time.perf_counter() - started_s) * 1e3
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=latency_ms,
            response_length=0 if error else result.get_response().ByteSize(),
            exception=error,
            context={},
        )
        if error is None:
            receipt = {key: _value(each) for key, each in result.get_response().parameters.items()}
            PLAN.count(name, to_answer(int(result.as_numpy("logits").argmax()), receipt), latency_ms)


def _value(parameter: Any) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))


def _reason(text: str | None) -> str:
    """Return an error without what differs from request to request, so that like ones are counted together."""
    return (text or "no answer").split(";")[0].removeprefix('{"error":"')[:80]
