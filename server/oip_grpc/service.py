"""The RPCs of `inference.GRPCInferenceService`, by name; those of inference are in `inference`."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from tritonclient.grpc import service_pb2 as pb

from server.dataplane import DataPlane
from server.errors import MethodNotAllowed, NotFound, ServeError
from server.oip_grpc.errors import render_errors
from server.oip_grpc.inference import Inference

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE: str = _DESCRIPTOR.full_name


class Service:
    """Everything but inference; each method is the unary RPC of its name."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self.unary: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _server_live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=_passes(self._plane.check_live))

    async def _server_ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=_passes(self._plane.check_ready))

    async def _model_ready(self, request: Any) -> Any:
        ready = _passes(partial(self._plane.check_model_ready, request.name, request.version or None))
        return pb.ModelReadyResponse(ready=ready)

    async def _server_metadata(self, _: Any) -> Any:
        return ParseDict(self._plane.server_metadata(), pb.ServerMetadataResponse())

    async def _model_metadata(self, request: Any) -> Any:
        document = self._plane.model_metadata(request.name, request.version or None)
        return ParseDict(document, pb.ModelMetadataResponse())

    async def _model_config(self, request: Any) -> Any:
        document = self._plane.model_config(request.name, request.version or None)
        return ParseDict({"config": document}, pb.ModelConfigResponse())

    async def _model_statistics(self, request: Any) -> Any:
        document = self._plane.statistics(request.name or None, request.version or None)
        return ParseDict(document, pb.ModelStatisticsResponse())

    async def _repository_index(self, request: Any) -> Any:
        models = self._plane.repository_index(only_ready=request.ready)
        return ParseDict({"models": models}, pb.RepositoryIndexResponse())

    async def _load(self, request: Any) -> Any:
        await self._plane.load(request.model_name, list(request.parameters))
        return pb.RepositoryModelLoadResponse()

    async def _unload(self, request: Any) -> Any:
        await self._plane.unload(request.model_name, list(request.parameters))
        return pb.RepositoryModelUnloadResponse()


def build_handlers(service: Service, inference: Inference) -> dict[str, grpc.RpcMethodHandler]:
    """Return the handler of every RPC of the service, by name; RPCs of missing extensions are refused."""
    return {method.name: _to_handler(method, service, inference) for method in _DESCRIPTOR.methods}


def _to_handler(method: Any, service: Service, inference: Inference) -> grpc.RpcMethodHandler:
    messages = {
        "request_deserializer": method.input_type._concrete_class.FromString,  # noqa: SLF001 - what generated code uses
        "response_serializer": method.output_type._concrete_class.SerializeToString,  # noqa: SLF001
    }
    if method.name == "ModelStreamInfer":
        return grpc.stream_stream_rpc_method_handler(inference.stream, **messages)
    if method.name == "ModelInfer":
        return grpc.unary_unary_rpc_method_handler(inference.infer, **messages)
    answer = service.unary.get(method.name) or partial(_refuse, method.name)
    return grpc.unary_unary_rpc_method_handler(render_errors(method.name, answer), **messages)


async def _refuse(name: str, _: Any) -> Any:
    raise MethodNotAllowed("RPC", name, "one of the extensions that ServerMetadata lists")


def _passes(check: Callable[[], None]) -> bool:
    """Say whether a check passes. A model that does not exist is still an error."""
    try:
        check()
    except NotFound:
        raise
    except ServeError:
        return False
    return True
