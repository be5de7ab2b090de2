"""Small faults in the replies of a sound server: the checks meant for them see them, and nothing but them."""

from collections.abc import Callable
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from loadtest.conformance.http import Response
from loadtest.conformance.runner import Verdict
from tests.loadtest.conformance.conftest import Judge
from tests.loadtest.conformance.proxies import (
    HEADER_LENGTH,
    Closes,
    Refuses,
    Request,
    Spoil,
    forwarded,
    relaying,
    serving,
    with_header,
    with_json,
)


def of_json(change: Callable[[dict], object]) -> Spoil:
    """Change every JSON document."""
    return lambda _, response: with_json(response, change)


def of_infer(change: Callable[[dict], object]) -> Spoil:
    """Change the documents of successful inferences."""

    def spoil(request: Request, response: Response) -> Response:
        return with_json(response, change) if request.path.endswith("/infer") and response.status == 200 else response

    return spoil


def of_path(end: str, change: Callable[[dict], object]) -> Spoil:
    """Change the documents of paths that end so."""
    return lambda request, response: with_json(response, change) if request.path.endswith(end) else response


def of_outputs(change: Callable[[dict], object]) -> Spoil:
    """Change every output of successful inferences."""
    return of_infer(lambda document: [change(output) for output in document["outputs"]] and None)


def of_statistics(change: Callable[[dict], object]) -> Spoil:
    """Change every model's statistics."""
    return of_path("stats", lambda document: [change(each) for each in document.get("model_stats", [])] and None)


def header(name: str, value: str | None) -> Spoil:
    return lambda _, response: with_header(response, name, value)


def status(was: int, becomes: int) -> Spoil:
    return lambda _, response: replace(response, status=becomes) if response.status == was else response


def plain_errors(_: Request, response: Response) -> Response:
    return response if response.status == 200 else with_header(response, "content-type", "text/plain")


def fastapi_errors(_: Request, response: Response) -> Response:
    return response if response.status == 200 else with_json(response, lambda document: {"detail": document["error"]})


def unescaped_echo(request: Request, response: Response) -> Response:
    return response if response.status == 200 else replace(response, body=b'{"error": "\xff"}')


def header_one_off(_: Request, response: Response) -> Response:
    length = response.header(HEADER_LENGTH)
    return response if length is None else with_header(response, HEADER_LENGTH, str(int(length) + 1))


def byte_short(_: Request, response: Response) -> Response:
    return response if response.header(HEADER_LENGTH) is None else replace(response, body=response.body[:-1])


def other_end(_: Request, response: Response) -> Response:
    """Send tensors as a big-endian machine would."""
    length = response.header(HEADER_LENGTH)
    if length is None:
        return response
    head, tail = response.body[: int(length)], response.body[int(length) :]
    return replace(response, body=head + b"".join(tail[i : i + 4][::-1] for i in range(0, len(tail), 4)))


def always_first(request: Request, response: Response) -> Response:
    """Answer every row with the first."""

    def change(output: dict) -> None:
        rows = output["shape"][0]
        if "data" in output:
            output["data"] = output["data"][: len(output["data"]) // rows] * rows

    return of_outputs(change)(request, response)


def hangs_up_after_errors(request: Request, response: Response) -> Response:
    if response.status != 200:
        raise Closes
    return response


def ignores_options(request: Request, response: Response) -> Response:
    """Refuse every request with two inputs."""
    if request.path.endswith("/infer") and request.body.count(b'"datatype"') > 1:
        return Response(400, (("content-type", "application/json"),), b'{"error": "two inputs"}')
    return response


def gzip_always(_: Request, response: Response) -> Response:
    return with_header(response, "content-encoding", "br")


HTTP_FAULTS: dict[str, tuple[Spoil, set[str], set[str]]] = {
    # name: (fault, checks that must see it, checks that must not mind)
    "id is lost": (
        of_infer(lambda document: document.pop("id", None) and None),
        {"http.infer.id", "http.infer.id_of_all_characters", "http.infer.id_of_a_batch", "http.binary.id"},
        {"http.infer.flat", "http.infer.no_id"},
    ),
    "id is a number": (of_infer(lambda document: document.update(id=7)), {"http.infer.no_id"}, {"http.infer.flat"}),
    "version is a number": (
        of_infer(lambda document: document.update(model_version=1)),
        {"http.infer.model_version", "http.infer.version"},
        {"http.infer.model_name"},
    ),
    "model is another": (
        of_infer(lambda document: document.update(model_name="other")),
        {"http.infer.model_name"},
        {"http.infer.flat"},
    ),
    "header length is one too many": (
        header_one_off,
        {"http.binary.infer", "http.binary.header_length"},
        {"http.infer.flat"},
    ),
    "header length is lost": (header(HEADER_LENGTH, None), {"http.binary.infer"}, {"http.infer.flat"}),
    "a byte is lost": (byte_short, {"http.binary.infer", "http.binary.header_length"}, {"http.infer.flat"}),
    "bytes are turned": (other_end, {"http.binary.same_as_json"}, {"http.binary.header_length"}),
    "every row is the first": (always_first, {"http.infer.rows_keep_their_order"}, {"http.infer.batch"}),
    "an output has another shape": (
        of_outputs(lambda output: output["shape"].append(1)),
        {"http.infer.output_shapes"},
        {"http.infer.output_datatypes"},
    ),
    "an output has too few elements": (
        of_outputs(lambda output: output.get("data", [0]).pop()),
        {"http.infer.flat"},
        {"http.binary.infer"},
    ),
    "an output has another datatype": (
        of_outputs(lambda output: output.update(datatype="FP64")),
        {"http.infer.output_datatypes"},
        {"http.infer.output_shapes"},
    ),
    "an output is missing": (
        of_infer(lambda document: document["outputs"].pop() and None),
        {"http.infer.outputs"},
        {"http.infer.id"},
    ),
    "outputs have parameters of their own": (
        of_outputs(lambda output: output.update(parameters={"cost": 1})),
        {"http.infer.output_parameters"},
        {"http.infer.flat"},
    ),
    "a parameter is a list": (
        of_infer(lambda document: document.update(parameters={"cost": [1]})),
        {"http.infer.response_parameters"},
        {"http.infer.flat"},
    ),
    "content type is lost": (
        header("content-type", None),
        {"http.infer.content_type", "http.server.content_type", "http.binary.content_type", "http.error.content_type"},
        {"http.infer.flat"},
    ),
    "errors are text/plain": (
        plain_errors,
        {"http.error.content_type", "http.error.content_type_of_not_found"},
        {"http.infer.content_type", "http.refuse.unknown_input"},
    ),
    "errors are {detail}": (
        fastapi_errors,
        {"http.refuse.unknown_input", "http.error.unknown_path"},
        {"http.infer.flat"},
    ),
    "errors are not UTF-8": (unescaped_echo, {"http.error.echo_is_utf8"}, {"http.infer.flat"}),
    "not found is a bad request": (
        status(404, 400),
        {"http.refuse.unknown_model", "http.model.metadata_unknown", "http.error.unknown_path"},
        {"http.model.ready_unknown"},
    ),
    "bad requests are failures": (
        status(400, 500),
        {"http.refuse.json_cut", "http.refuse.unknown_input"},
        {"http.infer.flat"},
    ),
    "bad requests are answered": (
        status(400, 200),
        {"http.refuse.data_short", "http.binary.size_short"},
        {"http.infer.flat"},
    ),
    "answers are created": (status(200, 201), {"http.infer.flat", "http.health.live"}, {"http.refuse.unknown_model"}),
    "verbs are not found": (
        status(405, 404),
        {"http.error.wrong_verb", "http.error.allow"},
        {"http.error.infer_on_get"},
    ),
    "Allow is lost": (header("allow", None), {"http.error.allow"}, {"http.error.wrong_verb"}),
    "errors hang up": (hangs_up_after_errors, {"http.error.connection_lives"}, {"http.framing.keep_alive"}),
    "responses are br": (
        gzip_always,
        {"http.compression.not_asked", "http.compression.no_brotli", "http.compression.gzip_response"},
        {"http.infer.flat"},
    ),
    "options are refused": (ignores_options, {"http.infer.option", "http.binary.mixed_inputs"}, {"http.infer.flat"}),
    "live has no body": (
        lambda request, response: replace(response, body=b"") if "/health/" in request.path else response,
        {"http.health.live_body", "http.health.ready_body"},
        {"http.health.live"},
    ),
    "extensions are null": (
        of_path("/v2", lambda document: document.update(extensions=None)),
        {"http.server.extensions"},
        {"http.server.metadata"},
    ),
    "extensions are misspelt": (
        of_path("/v2", lambda document: document.update(extensions=["binary-tensor-data"])),
        {"http.server.extension_names"},
        {"http.server.extensions"},
    ),
    "shapes are strings": (
        of_path("/adatape_fake", lambda document: document["inputs"][0].update(shape=["8", "8"])),
        {"http.model.metadata_ports"},
        {"http.model.metadata"},
    ),
    "versions are numbers": (
        of_path("/adatape_fake", lambda document: document.update(versions=[1])),
        {"http.model.metadata_versions"},
        {"http.model.metadata"},
    ),
    "dims hold the batch": (
        of_path("/config", lambda document: document["input"][0]["dims"].insert(0, -1)),
        {"http.config.dims"},
        {"http.config.ports"},
    ),
    "datatypes of the configuration are bare": (
        of_path("/config", lambda document: document["input"][0].update(data_type="UINT8")),
        {"http.config.ports"},
        {"http.config.dims"},
    ),
    "max_batch_size is a string": (
        of_path("/config", lambda document: document.update(max_batch_size="16")),
        {"http.config.max_batch_size"},
        {"http.config"},
    ),
    "a duration is missing": (
        of_statistics(lambda each: each["inference_stats"].pop("cache_hit")),
        {"http.statistics.durations"},
        {"http.statistics.model", "http.statistics.integers"},
    ),
    "durations are floats": (
        of_statistics(lambda each: each["inference_stats"]["queue"].update(ns=1.5)),
        {"http.statistics.durations", "http.statistics.integers"},
        {"http.statistics.success"},
    ),
    "a duration is null": (
        of_statistics(lambda each: each["inference_stats"].update(fail=None)),
        {"http.statistics.durations", "http.statistics.integers"},
        {"http.statistics.model"},
    ),
    "the statistics' version is a number": (
        of_statistics(lambda each: each.update(version=1)),
        {"http.statistics.model", "http.statistics.version"},
        {"http.statistics.members"},
    ),
    "statistics stand still": (
        of_statistics(lambda each: each.update(inference_count=5, execution_count=5)),
        {"http.statistics.inference_count", "http.statistics.execution_count"},
        {"http.statistics.success"},
    ),
    "success stands still": (
        of_statistics(lambda each: each["inference_stats"].update(success={"count": 5, "ns": 5})),
        {"http.statistics.success", "http.statistics.parts_of_success"},
        {"http.statistics.inference_count"},
    ),
    "last inference is in seconds": (
        of_statistics(lambda each: each.update(last_inference=each["last_inference"] // 1000)),
        {"http.statistics.last_inference"},
        {"http.statistics.integers"},
    ),
    "the index is an object": (
        of_path("/index", lambda models: {"models": models}),
        {"http.repository.index"},
        {"http.repository.load_unknown"},
    ),
    "the index has unready models": (
        of_path("/index", lambda models: [*models, {"name": "x", "version": "1", "state": "UNAVAILABLE"}]),
        {"http.repository.index_ready"},
        {"http.repository.index"},
    ),
    "classes are worst first": (
        of_outputs(lambda output: output.get("data", []).reverse()),
        {"http.classification.top"},
        {"http.infer.flat"},
    ),
}


@pytest.mark.parametrize("name", HTTP_FAULTS)
def test_fault_over_http_is_seen(judge: Judge, http: str, name: str):
    spoil, seen_by, borne_by = HTTP_FAULTS[name]
    with serving(forwarded(http, spoil)) as address:
        verdicts = {check: judge(check, http=address) for check in seen_by | borne_by}
    assert {check for check in seen_by if verdicts[check].verdict is not Verdict.FAIL} == set()
    assert {check: verdicts[check].reason for check in borne_by if verdicts[check].verdict is not Verdict.PASS} == {}


def test_without_a_fault_the_proxy_is_not_seen(judge: Judge, http: str):
    with serving(forwarded(http, lambda _, response: response)) as address:
        results = [judge(check, http=address) for check in sorted(set().union(*(f[1] for f in HTTP_FAULTS.values())))]
    assert {result.check.name: result.reason for result in results if result.verdict is not Verdict.PASS} == {}


# --- gRPC ---


def of_response(change: Callable[[pb.ModelInferResponse], object]):
    """Change every answer of ModelInfer."""

    def fault(method: str, _: bytes, reply: bytes) -> bytes:
        if method != "ModelInfer":
            return _as_it_was(method, reply)
        response = pb.ModelInferResponse.FromString(reply)
        change(response)
        return response.SerializeToString()

    return fault


def of_stream(change: Callable[[pb.ModelStreamInferResponse], object]):
    """Change, or with None drop, every response of a stream."""

    def fault(method: str, _: bytes, reply: bytes) -> bytes | None:
        if method != "ModelStreamInfer":
            return _as_it_was(method, reply)
        response = pb.ModelStreamInferResponse.FromString(reply)
        return None if change(response) is Drops else response.SerializeToString()

    return fault


class Drops:
    """Returned by a fault that swallows a response."""


def coded(was: str, becomes: grpc.StatusCode, details: str = "wrong"):
    """Change one status code to another."""

    def fault(method: str, _: bytes, reply: bytes) -> bytes:
        if method.endswith("!" + was):
            raise Refuses(becomes, details)
        return _as_it_was(method, reply)

    return fault


def _as_it_was(method: str, reply: bytes) -> bytes:
    if "!" in method:
        raise KeyError(method)
    return reply


def typed(response: pb.ModelInferResponse) -> None:
    """Send outputs as typed contents."""
    for output in response.outputs:
        output.contents.fp32_contents.append(0.5)
    del response.raw_output_contents[:]


def swapped(response: pb.ModelInferResponse) -> None:
    """Send the contents of outputs in another order than the outputs."""
    raws = list(response.raw_output_contents)
    response.raw_output_contents[:] = [raws[1], raws[0], *raws[2:]]


def always_serving(method: str, _: bytes, reply: bytes) -> bytes:
    if method.startswith("Check"):
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
    return _as_it_was(method, reply)


def always_ready(method: str, _: bytes, reply: bytes) -> bytes:
    if method.startswith("ModelReady"):
        return pb.ModelReadyResponse(ready=True).SerializeToString()
    return _as_it_was(method, reply)


def stream_ends_on_error(response: pb.ModelStreamInferResponse) -> None:
    if response.error_message:
        raise Refuses(grpc.StatusCode.NOT_FOUND, response.error_message)


GRPC_FAULTS = {
    "id is lost": (
        of_response(lambda r: r.ClearField("id")),
        {"grpc.infer.id", "grpc.infer.concurrent"},
        {"grpc.infer.raw"},
    ),
    "version is lost": (
        of_response(lambda r: r.ClearField("model_version")),
        {"grpc.infer.model", "grpc.infer.version"},
        {"grpc.infer.id"},
    ),
    "outputs are typed": (of_response(typed), {"grpc.infer.raw_outputs", "grpc.infer.raw"}, {"grpc.infer.id"}),
    "outputs are swapped": (of_response(swapped), {"grpc.infer.same_as_http"}, {"grpc.infer.raw_outputs"}),
    "an output is missing": (
        of_response(lambda r: (r.outputs.pop(), r.raw_output_contents.pop())),
        {"grpc.infer.raw"},
        {"grpc.infer.id"},
    ),
    "an output is cut": (
        of_response(lambda r: r.raw_output_contents.__setitem__(0, r.raw_output_contents[0][:-1])),
        {"grpc.infer.raw"},
        {"grpc.infer.id"},
    ),
    "bad requests are internal": (
        coded("INVALID_ARGUMENT", grpc.StatusCode.INTERNAL),
        {"grpc.refuse.raw_short", "grpc.refuse.unknown_input"},
        {"grpc.refuse.unknown_model"},
    ),
    "not found is a bad request": (
        coded("NOT_FOUND", grpc.StatusCode.INVALID_ARGUMENT),
        {"grpc.refuse.unknown_model", "grpc.model.metadata_unknown"},
        {"grpc.refuse.raw_short"},
    ),
    "refusals say nothing": (
        coded("INVALID_ARGUMENT", grpc.StatusCode.INVALID_ARGUMENT, ""),
        {"grpc.refuse.raw_short"},
        {"grpc.refuse.unknown_model"},
    ),
    "every service is serving": (
        always_serving,
        {"grpc.standard_health_unknown"},
        {"grpc.standard_health"},
    ),
    "every model is ready": (always_ready, {"grpc.model.ready_unknown"}, {"grpc.model.ready"}),
    "a stream ends on an error": (of_stream(stream_ends_on_error), {"grpc.stream.error"}, {"grpc.stream.one"}),
    "a stream forgets ids": (
        of_stream(lambda r: r.infer_response.ClearField("id")),
        {"grpc.stream.many", "grpc.stream.error_id"},
        {"grpc.stream.one"},
    ),
    "a stream loses responses": (
        of_stream(lambda r: Drops if r.infer_response.id.endswith("7") else None),
        {"grpc.stream.many"},
        {"grpc.stream.one"},
    ),
    "a stream never says final": (
        of_stream(lambda r: r.infer_response.parameters.clear()),
        {"grpc.stream.final"},
        {"grpc.stream.one"},
    ),
}


@pytest.mark.parametrize("name", GRPC_FAULTS)
def test_fault_over_grpc_is_seen(judge: Judge, grpc_address: str, name: str):
    fault, seen_by, borne_by = GRPC_FAULTS[name]
    with relaying(grpc_address, fault) as address:
        verdicts = {check: judge(check, grpc=address) for check in seen_by | borne_by}
    assert {check for check in seen_by if verdicts[check].verdict is not Verdict.FAIL} == set()
    assert {check: verdicts[check].reason for check in borne_by if verdicts[check].verdict is not Verdict.PASS} == {}


def test_without_a_fault_the_relay_is_not_seen(judge: Judge, grpc_address: str):
    with relaying(grpc_address, lambda method, _, reply: _as_it_was(method, reply)) as address:
        results = [judge(check, grpc=address) for check in sorted(set().union(*(f[1] for f in GRPC_FAULTS.values())))]
    assert {result.check.name: result.reason for result in results if result.verdict is not Verdict.PASS} == {}
