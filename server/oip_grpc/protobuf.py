"""Converts protocol buffers to the data plane's messages, and back."""

from collections.abc import Iterator, Mapping
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from server.dataplane import MAX_DIMS, InputTensor, OipRequest, OipResponse, RequestedOutput
from server.errors import BadRequest

PROTOCOL = "oip_grpc"
_CONTENTS = {"UINT8": "uint_contents", "INT32": "int_contents", "BYTES": "bytes_contents"}
"""The fields of typed contents, by the datatypes that our inputs can have."""


def to_infer(
    request: Any, *, request_id: str, arrival_s: float, time_left_s: float | None, tenant: str | None = None
) -> OipRequest:
    """Read a ModelInferRequest.

    Raises: BadRequest if its parts contradict each other.
    """
    return OipRequest(
        model=request.model_name,
        version=request.model_version or None,
        inputs=list(_read_inputs(request)),
        request_id=request_id,
        arrival_s=arrival_s,
        protocol=PROTOCOL,
        outputs=[_read_output(output) for output in request.outputs],
        parameters=to_values(request.parameters),
        time_left_s=time_left_s,
        tenant=tenant,
    )


def to_response(answer: OipResponse, name: str) -> Any:
    """Return a ModelInferResponse; its tensors are always raw, which every client reads."""
    response = pb.ModelInferResponse(
        model_name=answer.model,
        model_version=answer.version,
        id=name,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            for tensor in answer.outputs
        ],
        raw_output_contents=[tensor.to_raw() for tensor in answer.outputs],
    )
    set_values(response.parameters, answer.parameters)
    return response


def to_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain values.

    Raises: BadRequest for one without a value.
    """
    values = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise BadRequest(f"parameter {name}", "none of its values", "one")
        values[name] = getattr(parameter, choice)
    return values


def set_values(parameters: Any, values: Mapping[str, str | int | float]) -> None:
    """Write plain values into a map of parameters."""
    for name, value in values.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        elif isinstance(value, float):
            parameters[name].double_param = value
        else:
            parameters[name].string_param = value


def _read_inputs(request: Any) -> Iterator[InputTensor]:
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise BadRequest("raw_input_contents", f"{len(raws)} for {len(request.inputs)} inputs", "one an input, or none")
    for index, tensor in enumerate(request.inputs):
        _refuse_shared_memory(tensor)
        if len(tensor.shape) > MAX_DIMS:
            raise BadRequest(f"shape of input {tensor.name}", f"{len(tensor.shape)} dimensions", f"at most {MAX_DIMS}")
        shape = tuple(tensor.shape)
        if not raws:
            contents = getattr(tensor.contents, _CONTENTS.get(tensor.datatype, "uint_contents"))
            yield InputTensor(tensor.name, tensor.datatype, shape, values=contents)
        elif tensor.HasField("contents"):
            raise BadRequest(f"input {tensor.name}", "contents and raw_input_contents", "one of the two")
        else:
            yield InputTensor(tensor.name, tensor.datatype, shape, raw=raws[index])


def _read_output(output: Any) -> RequestedOutput:
    _refuse_shared_memory(output)
    num_classes = to_values(output.parameters).get("classification", 0)
    if type(num_classes) is not int or num_classes < 0:
        raise BadRequest(f"classification of output {output.name}", num_classes, "a number of classes")
    return RequestedOutput(output.name, num_classes)


def _refuse_shared_memory(tensor: Any) -> None:
    for name in tensor.parameters:
        if name.startswith("shared_memory"):
            raise BadRequest(f"parameter of {tensor.name}", name, "tensors in the message: there is no shared memory")
