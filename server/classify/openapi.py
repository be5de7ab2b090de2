"""The OpenAPI operations of the endpoints that FastAPI does not know, generated from the parameter table."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from server.classify.models import QUOTE_PARAMETERS
from server.classify.schemas import Answer, ErrorBody, Quote
from server.params import PARAMETERS, Parameter

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"

ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("The request cannot be understood.", "max_tape in the query; got -1; expected an integer, 0 or more"),
    401: (
        "No API key, or one that is not known.",
        "API key; got none; expected one in Authorization: Bearer or X-API-Key",
    ),
    403: (
        "The caller is known and may not do this, or a web page of somebody else had a browser call.",
        "/v1/controller; got a key of acme; expected an admin's key",
    ),
    404: ("No such model, version or path.", "model; got cat; expected one of: adatape_cifar10, adatape_photo"),
    405: ("The path exists, the method does not.", "method for /v1/classify; got GET; expected POST"),
    408: (
        "A part of the request did not arrive in time.",
        "the request's body; got no end of it after 60 s; expected all of it by then",
    ),
    413: (
        "The body or the image is larger than the server's limit.",
        "the request body is too large; got 31457280 bytes; expected at most 20971520 bytes",
    ),
    415: (
        "The bytes are no image we can read, or a broken one.",
        "the PNG image is broken; got image file is truncated; expected a complete file",
    ),
    417: ("The request expects what the server does not do.", "Expect; got tea; expected 100-continue, or none"),
    429: (
        "A quota of the caller's tenant is spent, or it has too much pending.",
        "quota of acme; got 2.1e+06 FLOPs left; expected at least 3.6e+06 for 1 samples at max_tape 0",
    ),
    431: (
        "The request line and headers are larger than the server's limit.",
        "the request line and headers; got more than 32768 bytes; expected at most 32768 bytes",
    ),
    500: (
        "The server's own fault.",
        "the server failed unexpectedly; expected a bug report that names request 5f0c1d2e3b4a5968",
    ),
    503: ("Nothing can serve this now: overload, start or shutdown.", "the server is shutting down"),
    504: ("The caller's deadline cannot be, or was not, met.", "deadline_ms; got 1; expected at least 4"),
}
CLASSIFY_ERRORS = (400, 401, 403, 404, 408, 413, 415, 417, 429, 431, 500, 503, 504)
QUOTE_ERRORS = (400, 401, 403, 404, 408, 413, 417, 431, 500)

_RECEIPT_EXAMPLE = {
    "cap": 8,
    "budget_reason": "requested",
    "tape_length": 6,
    "tape_length_wanted": 6,
    "tape_capacity": 16,
    "bucket": 8,
    "useful_flops": 61_204_480,
    "executed_flops": 63_918_080,
    "full_flops": 88_342_528,
    "queue_ms": 0.06,
    "read_ms": 0.71,
    "trunk_ms": 1.94,
    "total_ms": 2.83,
}
_ANSWER_EXAMPLE = {
    "id": "5f0c1d2e3b4a5968",
    "model": "adatape_cifar10",
    "version": "1",
    "results": [
        {
            "file": "photo.jpg",
            "predictions": [
                {"label": "cat", "index": 3, "probability": 0.91},
                {"label": "dog", "index": 5, "probability": 0.06},
            ],
            "receipt": _RECEIPT_EXAMPLE,
        }
    ],
}
_PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
_BINARY = {"type": "string", "format": "binary"}


def error_responses(statuses: Iterable[int]) -> dict[int | str, Json]:
    """Return the documentation of error statuses, in the form that FastAPI and OpenAPI share."""
    return {status: _error_response(status) for status in statuses}


def _error_response(status: int) -> Json:
    description, example = ERRORS[status]
    response: Json = {
        "description": description,
        "content": {
            "application/json": {"schema": {"$ref": _REF.format(model="ErrorBody")}, "example": {"error": example}}
        },
    }
    if status in {429, 503}:
        retry = {"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}}
        response["headers"] = {"Retry-After": retry}
    return response


def classify_operation() -> Json:
    """Describe `POST /v1/classify`."""
    return {
        "tags": ["classify"],
        "summary": "Classify one or several images",
        "description": (
            "The image is the raw body, a file of a form, or base64 in JSON: JPEG, PNG, WebP, BMP or GIF. "
            "Every parameter may stand in the query, in the body (a form or JSON field) or in a header; "
            "the query wins over the body, the body over the header. The answer holds one result an image, "
            "each with its receipt: what it cost, and why it was given that much."
        ),
        "operationId": "classify",
        "parameters": _parameters(PARAMETERS),
        "requestBody": {"required": True, "content": _classify_content()},
        "responses": _responses("Answer", "Predictions and receipts.", _ANSWER_EXAMPLE, CLASSIFY_ERRORS),
    }


def quote_operation() -> Json:
    """Describe `POST /v1/models/{model}/quote`."""
    fields = {"type": "object", "properties": _properties(QUOTE_PARAMETERS.values()), "additionalProperties": False}
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "tags": ["models"],
        "summary": "Say what an ask would come to",
        "description": (
            "Nothing is run. For the given max_tape, max_flops or min_accuracy: the cap, what an image can cost "
            "under it, the accuracy to expect and the predicted latency."
        ),
        "operationId": "quote",
        "parameters": [model, *_parameters(QUOTE_PARAMETERS.values())],
        "requestBody": {"content": {"application/json": {"schema": fields, "example": {"min_accuracy": 0.5}}}},
        "responses": _responses("Quote", "The quote.", None, QUOTE_ERRORS),
    }


def component_schemas() -> Json:
    """Return the schemas that the operations refer to."""
    models = [(model, "serialization") for model in (Answer, Quote, ErrorBody)]
    definitions: Json = models_json_schema(models, ref_template=_REF)[1]["$defs"]  # type: ignore[arg-type]
    return definitions


def _responses(model: str, description: str, example: Json | None, errors: Iterable[int]) -> Json:
    content: Json = {"schema": {"$ref": _REF.format(model=model)}}
    if example is not None:
        content["example"] = example
    request_id = {"description": "The call's id, yours or a new one.", "schema": {"type": "string"}}
    success = {
        "description": description,
        "headers": {"X-Request-Id": request_id},
        "content": {"application/json": content},
    }
    return {"200": success, **{str(status): error for status, error in error_responses(errors).items()}}


def _parameters(parameters: Iterable[Parameter]) -> list[Json]:
    return [
        {"name": name, "in": place, "description": parameter.description, "schema": dict(parameter.schema)}
        for parameter in parameters
        for name, place in ((parameter.name, "query"), (parameter.header, "header"))
    ]


def _properties(parameters: Iterable[Parameter]) -> Json:
    return {
        parameter.name: {**parameter.schema, "description": parameter.description, "examples": [parameter.example]}
        for parameter in parameters
    }


def _classify_content() -> Json:
    fields = _properties(PARAMETERS)
    base64 = {"type": "string", "minLength": 4, "contentEncoding": "base64", "description": "One image, as base64."}
    files = {"type": "array", "items": _BINARY, "minItems": 1}
    return {
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": files, **fields}, "required": ["file"]},
        },
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"image": base64, "images": {"type": "array", "items": base64, "minItems": 1}, **fields},
                "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
                "additionalProperties": False,
            },
            "example": {"image": _PIXEL_PNG, "max_tape": 8},
        },
        "image/*": {"schema": _BINARY},
    }
