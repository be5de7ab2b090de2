"""Health, metadata, configuration, statistics and repository over gRPC."""

from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

from loadtest.conformance.expect import Failure, expect, expect_equal
from loadtest.conformance.registry import MUST, TRITON, check
from loadtest.conformance.rpc import CODES
from loadtest.conformance.target import Target

SOURCE = "OIP gRPC"
SERVICE = "inference.GRPCInferenceService"
HEALTH = "gRPC health checking protocol"


@check("grpc.health.live", MUST, SOURCE + ": ServerLive")
def live(target: Target) -> None:
    """ServerLive says true."""
    expect(target.rpc.call("ServerLive", pb.ServerLiveRequest()).live, "false", "true")


@check("grpc.health.ready", MUST, SOURCE + ": ServerReady")
def ready(target: Target) -> None:
    """ServerReady says true."""
    expect(target.rpc.call("ServerReady", pb.ServerReadyRequest()).ready, "false", "true")


@check("grpc.model.ready", MUST, SOURCE + ": ModelReady")
def model_ready(target: Target) -> None:
    """ModelReady says true of the model, with and without its version."""
    for version in ("", target.model.version):
        request = pb.ModelReadyRequest(name=target.model.name, version=version)
        expect(target.rpc.call("ModelReady", request).ready, f"false for version {version!r}", "true")


@check("grpc.model.ready_unknown", MUST, SOURCE + ": ModelReady")
def model_ready_unknown(target: Target) -> None:
    """An unknown model is not ready: false, or NOT_FOUND."""
    request = pb.ModelReadyRequest(name="no_such_model")
    try:
        is_ready = target.rpc.call("ModelReady", request).ready
    except Failure as failure:
        expect("NOT_FOUND" in target.seen, str(failure), "false, or NOT_FOUND")
    else:
        expect(not is_ready, "true", "false, or NOT_FOUND")


@check("grpc.server.metadata", MUST, SOURCE + ": ServerMetadata")
def server_metadata(target: Target) -> None:
    """ServerMetadata says what v2 says."""
    got = target.rpc.call("ServerMetadata", pb.ServerMetadataRequest())
    document = target.http.get("v2").json()
    expect_equal([got.name, got.version], [document["name"], document["version"]], "name and version")
    expect_equal(sorted(got.extensions), sorted(document["extensions"]), "extensions")


@check("grpc.model.metadata", MUST, SOURCE + ": ModelMetadata")
def model_metadata(target: Target) -> None:
    """ModelMetadata says what it says over HTTP."""
    got = target.rpc.call("ModelMetadata", pb.ModelMetadataRequest(name=target.model.name))
    document = target.http.get(target.model_path()).json()
    expect_equal([got.name, got.platform], [document["name"], document["platform"]], "name and platform")
    for ports in ("inputs", "outputs"):
        listed = [
            {"name": port.name, "datatype": port.datatype, "shape": list(port.shape)} for port in getattr(got, ports)
        ]
        expect_equal(listed, [{key: port[key] for key in listed[0]} for port in document[ports]], ports)


@check("grpc.model.metadata_unknown", MUST, SOURCE + ": ModelMetadata")
def model_metadata_unknown(target: Target) -> None:
    """ModelMetadata of an unknown model or version is NOT_FOUND."""
    for name, version in (("no_such_model", ""), (target.model.name, "999999")):
        request = pb.ModelMetadataRequest(name=name, version=version)
        target.rpc.refused("ModelMetadata", request, [CODES.NOT_FOUND])


@check("grpc.config", TRITON, "Triton model configuration extension")
def config(target: Target) -> None:
    """ModelConfig says what it says over HTTP."""
    target.requires("model_configuration")
    got = target.rpc.call("ModelConfig", pb.ModelConfigRequest(name=target.model.name)).config
    document = target.http.get(target.model_path("config")).json()
    expect_equal([got.name, got.max_batch_size], [document["name"], document["max_batch_size"]], "name and batch")
    for ports in ("input", "output"):
        listed = [(port.name, list(port.dims)) for port in getattr(got, ports)]
        expect_equal(listed, [(port["name"], [int(n) for n in port["dims"]]) for port in document[ports]], ports)


def statistics(target: Target) -> Any:
    """Return the model's statistics."""
    target.requires("statistics")
    found = target.rpc.call("ModelStatistics", pb.ModelStatisticsRequest(name=target.model.name)).model_stats
    expect(len(found) > 0, "no model_stats", "one")
    return found[0]


@check("grpc.statistics", TRITON, "Triton statistics extension")
def model_statistics(target: Target) -> None:
    """ModelStatistics has the model's name and version, and counts."""
    target.ask_binary()
    found = statistics(target)
    expect_equal([found.name, found.version], [target.model.name, target.model.version], "name and version")
    expect(found.inference_count > 0 and found.execution_count > 0, "no counts", "inferences and executions")
    expect(found.inference_stats.success.count > 0, "no success", "some")


@check("grpc.statistics_same", TRITON, "Triton statistics extension")
def statistics_same(target: Target) -> None:
    """Statistics count both transports together."""
    before = statistics(target).inference_count
    target.ask_binary()
    after = target.settled(lambda: statistics(target).inference_count, lambda after: after > before)
    expect(after > before, "no growth by a request over HTTP", "growth")


@check("grpc.statistics_all", TRITON, "Triton statistics extension")
def statistics_all(target: Target) -> None:
    """ModelStatistics without a name has this model among all."""
    target.requires("statistics")
    found = target.rpc.call("ModelStatistics", pb.ModelStatisticsRequest()).model_stats
    expect(target.model.name in {each.name for each in found}, [each.name for each in found], target.model.name)


@check("grpc.statistics_unknown", TRITON, "Triton statistics extension")
def statistics_unknown(target: Target) -> None:
    """ModelStatistics of an unknown model is refused."""
    target.requires("statistics")
    request = pb.ModelStatisticsRequest(name="no_such_model")
    target.rpc.refused("ModelStatistics", request, [CODES.NOT_FOUND, CODES.INVALID_ARGUMENT])


@check("grpc.repository.index", TRITON, "Triton model repository extension")
def repository_index(target: Target) -> None:
    """RepositoryIndex lists the model as READY."""
    target.requires("model_repository")
    models = target.rpc.call("RepositoryIndex", pb.RepositoryIndexRequest(ready=True)).models
    states = [each.state for each in models if each.name == target.model.name]
    expect("READY" in states, f"states {states}", "READY among them")


@check("grpc.repository.load_unknown", TRITON, "Triton model repository extension")
def repository_load_unknown(target: Target) -> None:
    """Loading an unknown model is refused."""
    target.requires("model_repository")
    request = pb.RepositoryModelLoadRequest(model_name="no_such_model")
    allowed = [CODES.NOT_FOUND, CODES.INVALID_ARGUMENT, CODES.UNAVAILABLE, CODES.UNIMPLEMENTED]
    target.rpc.refused("RepositoryModelLoad", request, allowed)


@check("grpc.shared_memory", TRITON, "Triton shared memory extensions")
def shared_memory(target: Target) -> None:
    """Shared memory calls answer if the extension is listed, and are UNIMPLEMENTED if not."""
    request = pb.SystemSharedMemoryStatusRequest()
    if "system_shared_memory" in target.extensions:
        target.rpc.call("SystemSharedMemoryStatus", request)
    else:
        target.rpc.refused("SystemSharedMemoryStatus", request, [CODES.UNIMPLEMENTED])


@check("grpc.standard_health", TRITON, HEALTH)
def standard_health(target: Target) -> None:
    """The standard health service says SERVING of the server."""
    got = target.rpc.settle(target.rpc.health.Check, health_pb2.HealthCheckRequest())
    expect_equal(got.status, health_pb2.HealthCheckResponse.SERVING, "status")


@check("grpc.standard_health_unknown", MUST, HEALTH + ": unknown services")
def standard_health_unknown(target: Target) -> None:
    """The standard health service says NOT_FOUND of an unknown service."""
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    target.rpc.refused_by(target.rpc.health.Check, request, [CODES.NOT_FOUND])


@check("grpc.standard_health_watch", MUST, HEALTH + ": Watch")
def standard_health_watch(target: Target) -> None:
    """A watch of the standard health service tells the status at once, or is UNIMPLEMENTED."""
    call = target.rpc.health.Watch(health_pb2.HealthCheckRequest(), timeout=target.rpc.timeout_s)
    try:
        expect_equal(next(call).status, health_pb2.HealthCheckResponse.SERVING, "status")
    except grpc.RpcError as error:
        expect(error.code() == CODES.UNIMPLEMENTED, error.code().name, "SERVING, or UNIMPLEMENTED")
    finally:
        call.cancel()


@check("grpc.reflection", TRITON, "gRPC server reflection protocol")
def reflection(target: Target) -> None:
    """Reflection lists the inference service."""
    stub = reflection_pb2_grpc.ServerReflectionStub(target.rpc.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    try:
        (response,) = list(stub.ServerReflectionInfo(iter([request]), timeout=target.rpc.timeout_s))
    except grpc.RpcError as error:
        target.seen.append(error.code().name)
        raise Failure(f"got {error.code().name}; expected a list of services") from error
    names = [service.name for service in response.list_services_response.service]
    expect(SERVICE in names, names, SERVICE)


@check("grpc.unknown_method", MUST, "gRPC status codes: UNIMPLEMENTED")
def unknown_method(target: Target) -> None:
    """An unknown method is UNIMPLEMENTED."""
    method = target.rpc.channel.unary_unary(f"/{SERVICE}/NoSuchMethod", lambda data: data, lambda data: data)
    target.rpc.refused_by(method, b"", [CODES.UNIMPLEMENTED])
