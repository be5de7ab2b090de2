"""The public shapes of `/v1`, as the OpenAPI document shows them.

Classify answers are rendered without these models, for speed; a test validates every answer with them.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from server.models.manifest import BankSpec, Preprocessing, SourceRun, Symbols
from server.records import BudgetReason


class PublicModel(BaseModel):
    """Base of all public shapes: unknown fields are errors, and docstrings become descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ErrorBody(PublicModel):
    """The body of every answer that is not 200, on every path."""

    error: str = Field(examples=["max_tape in the query; got -1; expected an integer, 0 or more"])
    """What went wrong; the offending value; what was expected."""


class Prediction(PublicModel):
    label: str
    index: int
    probability: float


class PublicReceipt(PublicModel):
    """What one image's answer cost, and why it was given that much. A multiply-add counts as 2 FLOPs."""

    cap: int
    """Most tape tokens the image was allowed to read."""
    budget_reason: BudgetReason
    """The rule that set the cap; `model` where nothing but the model's tape capacity bound it."""
    tape_length: int
    """Tape tokens read."""
    tape_length_wanted: int | None
    """Tape tokens the image would have read without a cap; null at cap 0, where nothing is read."""
    tape_capacity: int
    """Most tape tokens the model can read."""
    bucket: int
    """Compiled tape capacity the answer ran in."""
    useful_flops: int
    """FLOPs at the image's own tape length."""
    executed_flops: int
    """FLOPs that really ran for it: its bucket, and its share of the batch's padding."""
    full_flops: int
    """FLOPs of an answer at full tape, to compare with."""
    queue_ms: float
    """Waiting, from the arrival of the request; decoding the image is part of it."""
    read_ms: float
    """In the reader, with the rest of its batch."""
    trunk_ms: float
    """In the trunk, with the rest of its batch."""
    total_ms: float
    """From the arrival of the request to its settlement."""


class PixelBox(PublicModel):
    left: float
    top: float
    right: float
    bottom: float


class Read(PublicModel):
    """One bank entry that a tape token read. A learnable bank has no places: only entry and weight."""

    entry: int
    weight: float
    row: int | None = None
    column: int | None = None
    box: PixelBox | None = None
    """In pixels of the model's input."""
    upload_box: PixelBox | None = None
    """In pixels of the uploaded image, seen upright."""


class TapeToken(PublicModel):
    token: int
    reads: list[Read]


class Size(PublicModel):
    width: int
    height: int


class Explanation(PublicModel):
    """What each tape token read, in the order of reading."""

    bank: Literal["input", "learn"]
    input_size: Size
    upload_size: Size
    """Of the uploaded image, seen upright."""
    tokens: list[TapeToken]


class Result(PublicModel):
    """The answer for one image."""

    file: str | None = None
    """The file's name, where the image came in a form."""
    predictions: list[Prediction]
    """Most probable first."""
    receipt: PublicReceipt
    explanation: Explanation | None = None


class Answer(PublicModel):
    """The answer for one request: one result for each image, in their order."""

    id: str
    """The request's id: the caller's X-Request-Id, or a new one."""
    model: str
    version: str
    results: list[Result]


class ModelSummary(PublicModel):
    name: str
    version: str
    versions: list[str]
    is_default: bool
    """Whether it answers callers who name no model."""
    device: str
    """What really runs the graphs."""
    precision: Literal["fp32", "fp16", "int8"]
    num_labels: int
    preprocessing: Preprocessing | None
    """None for a family of symbols, which is asked over the Open Inference Protocol alone."""
    symbols: Symbols | None
    tape_capacity: int
    buckets: list[int]
    min_flops: int
    """Useful FLOPs of an image at cap 0."""
    full_flops: int
    """Useful FLOPs of an image at full tape."""


class ModelList(PublicModel):
    default: str | None
    models: list[ModelSummary]
    broken: dict[str, str]
    """Why a `family/version` on disk is not served."""


class ModelDetail(ModelSummary):
    labels: list[str]
    reads_per_step: int
    halting_threshold: float
    bank: BankSpec
    max_batch_size: int
    flops: list[int]
    """Useful FLOPs of an image by tape length."""
    hardware: str
    """Where the latencies behind quotes were measured."""
    source: SourceRun


class PublicCurvePoint(PublicModel):
    cap: int
    accuracy: float
    accuracy_low: float
    """Lower end of the 95 % Wilson interval."""
    accuracy_high: float
    mean_tape_length: float
    mean_tape_length_wanted: float
    mean_flops: float


class Curve(PublicModel):
    """Accuracy and cost against the cap, measured on the data named here."""

    model: str
    version: str
    data: str
    split: str
    data_digest: str
    num_samples: int
    points: list[PublicCurvePoint]


class ExpectedQuality(PublicModel):
    """From the quality curve; between measured caps, on the straight line between their points."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    mean_tape_length: float
    mean_flops: float


class PredictedLatency(PublicModel):
    """Of one image alone, at the cap's bucket, on an idle server like the one measured."""

    hardware: str
    read_ms: float
    trunk_ms: float
    total_ms: float


class Quote(PublicModel):
    """What an ask would come to for one image."""

    model: str
    version: str
    cap: int
    budget_reason: BudgetReason
    bucket: int
    max_useful_flops: int
    """Most that an image can need under this cap."""
    max_executed_flops: int
    """Most that can run for it: the whole reader and the cap's bucket."""
    full_flops: int
    expected: ExpectedQuality
    latency: PredictedLatency


class Liveness(PublicModel):
    status: Literal["live"] = "live"


class Readiness(PublicModel):
    status: Literal["ready"] = "ready"
    device: str
    models: list[str]
