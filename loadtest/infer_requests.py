"""Turns a picture into a request of each form that the server accepts, and reads the receipt of the answer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.lean_http import Reply, find_header, render
from loadtest.photos import Pixels, find_photos, random_crops, read_photo, to_jpeg, to_pixels
from loadtest.target import Target

CLASSIFY, BINARY = "classify", "binary"
FORMS = (CLASSIFY, BINARY)
"""A picture file to `/v1/classify`, or pixels by the Open Inference Protocol's binary extension."""
HEADER_LENGTH = "Inference-Header-Content-Length"
SEED = 20


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One HTTP request for an inference."""

    path: str
    headers: dict[str, str]
    body: bytes

    def render(self) -> bytes:
        """Return it as the bytes that go on the wire."""
        return render(self.path, self.body, self.headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer says.

    Units: FLOPs a sample. `best` is the index of the most probable class.
    """

    best: int
    cap: int
    budget_reason: str
    tape_length: int
    useful_flops: float
    executed_flops: float


@dataclass(frozen=True, slots=True)
class Pictures:
    """What is asked about: files as they are, and the same at the model's size.

    Shapes: pixels_BHWC (pictures, height, width, 3) uint8.
    """

    files: Sequence[bytes]
    pixels_BHWC: Pixels
    source: str

    def __len__(self) -> int:
        return len(self.files)


def load_pictures(target: Target, count: int, folder: Path | None) -> Pictures:
    """Take the pictures of a folder, at most `count`, or so many random crops of sample photos at the model's size.

    Raises: UsageError if there are none, or one that cannot be decoded.
    """
    if folder is None:
        pixels_BHWC = random_crops(target.height, target.width, count, np.random.default_rng(SEED))
        files = [to_jpeg(pixels) for pixels in pixels_BHWC]
        return Pictures(files, pixels_BHWC, f"{count} random crops of sample photos, as JPEG at the model's size")
    paths = find_photos(folder)[:count]
    pixels_BHWC = np.stack([to_pixels(read_photo(path), target.height, target.width) for path in paths])
    return Pictures([path.read_bytes() for path in paths], pixels_BHWC, f"{len(paths)} files of {folder.name}/")


def to_request(form: str, target: Target, pictures: Pictures, index: int, cap: int) -> InferRequest:
    """Return a picture as a request with a cap; no cap is sent for the whole tape."""
    is_full = cap >= target.tape_capacity
    if form == CLASSIFY:
        request = classify_request(target.model, pictures.files[index], None if is_full else cap)
    else:
        parameters = {} if is_full else {"max_tape": cap}
        request = infer_request(target.model, pictures.pixels_BHWC[index : index + 1], parameters)
    return replace(request, headers={**request.headers, **target.headers})


def classify_request(model: str, file: bytes, cap: int | None = None) -> InferRequest:
    """Return a picture file as a request to `/v1/classify`, which finds out its format by itself."""
    capped = "" if cap is None else f"&max_tape={cap}"
    return InferRequest(
        f"/v1/classify?model={model}&top_k=1{capped}", {"Content-Type": "application/octet-stream"}, file
    )


def infer_request(model: str, pixels_BHWC: Pixels, parameters: dict[str, Any] | None = None) -> InferRequest:
    """Return a request of the Open Inference Protocol with binary pixels and binary logits."""
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(pixels_BHWC.shape),
        "parameters": {"binary_data_size": pixels_BHWC.nbytes},
    }
    logits = {"name": "logits", "parameters": {"binary_data": True}}
    document = {"inputs": [image], "outputs": [logits], **({"parameters": parameters} if parameters else {})}
    header = json.dumps(document).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return InferRequest(f"/v2/models/{model}/infer", headers, header + pixels_BHWC.tobytes())


def read_reply(form: str, reply: Reply) -> Answer:
    """Return the content of an answer."""
    if form == CLASSIFY:
        return read_classify(reply.body)
    return read_binary(reply.body, int(find_header(reply.head, HEADER_LENGTH) or 0))


def read_classify(body: bytes) -> Answer:
    """Return what the body of a `/v1/classify` answer says."""
    (result,) = json.loads(body)["results"]
    return to_answer(result["predictions"][0]["index"], result["receipt"])


def read_binary(body: bytes, header_length: int) -> Answer:
    """Return what an answer with binary logits says."""
    parameters = json.loads(body[:header_length])["parameters"]
    return to_answer(int(np.frombuffer(body, "<f4", offset=header_length).argmax()), parameters)


def to_answer(best: int, receipt: dict[str, Any]) -> Answer:
    """Return an answer from its class and its receipt, in whatever surface's types."""
    return Answer(
        best=best,
        cap=int(receipt["cap"]),
        budget_reason=str(receipt["budget_reason"]),
        tape_length=int(receipt["tape_length"]),
        useful_flops=float(receipt["useful_flops"]),
        executed_flops=float(receipt["executed_flops"]),
    )
