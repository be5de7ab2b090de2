"""An outcome as the body of a reply: a JSON document, and behind it the outputs that go binary."""

from typing import Any

from server.dataplane import OipResponse
from server.http.compression import choose_coding, compress
from server.http.exchange import HttpReply, json_reply
from server.oip.requests import Head

HEADER_LENGTH = "Inference-Header-Content-Length"
Json = dict[str, Any]


def to_reply(response: OipResponse, head: Head, accepted: str | None) -> HttpReply:
    """Render an outcome as its head asked, compressed where the caller accepts it."""
    outputs: list[Json] = []
    binary: list[bytes] = []
    for tensor in response.outputs:
        fields: Json = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if head.is_binary.get(tensor.name, head.is_binary_default):
            raw = tensor.to_raw()
            fields["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            fields["data"] = tensor.to_values()
        outputs.append(fields)
    document: Json = {"model_name": response.model, "model_version": response.version}
    if head.id is not None:
        document["id"] = head.id
    document["parameters"] = response.parameters
    document["outputs"] = outputs
    reply = json_reply(document)
    return _compressed(_with_binary(reply, binary) if binary else reply, accepted)


def _with_binary(reply: HttpReply, binary: list[bytes]) -> HttpReply:
    body = b"".join((reply.body, *binary))
    return HttpReply(body, content_type="application/octet-stream", headers=((HEADER_LENGTH, str(len(reply.body))),))


def _compressed(reply: HttpReply, accepted: str | None) -> HttpReply:
    coding = choose_coding(accepted)
    if coding is None:
        return reply
    headers = (*reply.headers, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
    return HttpReply(compress(reply.body, coding), reply.status, reply.content_type, headers)
