"""Infer requests built by hand, including ones that no client library would send."""

from typing import Any

import httpx
import numpy as np
import orjson

from server.backends.fake import FAMILY, SIDE_PX

INFER = f"/v2/models/{FAMILY}/infer"
HEADER_LENGTH = "Inference-Header-Content-Length"
PIXELS = SIDE_PX * SIDE_PX * 3
SHAPE = [1, SIDE_PX, SIDE_PX, 3]


def pixels(level: int = 127, batch: int = 1) -> np.ndarray:
    """Return images that want a tape of (level + 1) // 16."""
    return np.full((batch, SIDE_PX, SIDE_PX, 3), level, np.uint8)


def image(batch: np.ndarray | None = None, **changes: Any) -> dict[str, Any]:
    """Return the image input in JSON form."""
    batch = pixels() if batch is None else batch
    fields = {"name": "image", "datatype": "UINT8", "shape": list(batch.shape), "data": batch.ravel().tolist()}
    return {name: value for name, value in {**fields, **changes}.items() if value is not None}


def binary(name: str, datatype: str, shape: list[int], size: int, **changes: Any) -> dict[str, Any]:
    """Return an input whose bytes follow the document."""
    fields = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    return {**fields, **changes}


def call(*inputs: Any, **fields: Any) -> dict[str, Any]:
    return {"inputs": list(inputs) or [image()], **fields}


def packed(document: dict[str, Any], *parts: bytes) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a binary request."""
    head = orjson.dumps(document)
    return b"".join((head, *parts)), {HEADER_LENGTH: str(len(head))}


def unpacked(response: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a reply's document and its binary outputs by name."""
    length = response.headers.get(HEADER_LENGTH)
    end = len(response.content) if length is None else int(length)
    document, offset, outputs = orjson.loads(response.content[:end]), end, {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            outputs[output["name"]] = response.content[offset : offset + size]
            offset += size
    assert offset == len(response.content)
    return document, outputs


def values(document: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON outputs of a reply by name."""
    return {output["name"]: output["data"] for output in document["outputs"] if "data" in output}
