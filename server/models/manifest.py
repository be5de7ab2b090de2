"""The on-disk contract of a model family: `1/manifest.json`.

Export writes it, the server reads it, and neither knows more of the other than this.
A family without a complete, hash-valid manifest is not visible.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceRun(_Record):
    """Where the weights came from."""

    run: str
    git_sha: str
    command: str
    data: str
    data_digest: str


class GraphFile(_Record):
    """One file of a graph; `path` is relative to the model repository."""

    path: str
    sha256: Sha256
    size_bytes: Count


class GraphSpec(_Record):
    """One ONNX graph: its Triton model name and the files it is made of, the `.onnx` first."""

    name: str
    files: Annotated[list[GraphFile], Field(min_length=1)]


class Preprocessing(_Record):
    """How bytes become the uint8 pixels that the reader takes; scaling lives in the graph."""

    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]
    resize: Literal["squash", "center_crop"]
    """`squash` ignores the aspect ratio; `center_crop` fits the shorter side, then crops."""


class Symbols(_Record):
    """Strings that the reader takes as they are: int8 symbols -1, 0 and 1; any other is a blank."""

    length: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a sample is to the reader: the name of its tensor, its datatype as numpy knows it, and its shape."""

    name: Literal["image", "symbols"]
    dtype: Literal["uint8", "int8"]
    shape: tuple[int, ...]


class BankSpec(_Record):
    """The geometry of the tape bank over the input, row-major; rows * cols entries."""

    kind: Literal["input", "learn"]
    rows: Count
    cols: Count
    patch_px: Count
    """Side of one entry's patch in input pixels; 0 for a learnable bank, and for symbols, an entry each."""


class Flops(_Record):
    """FLOPs a sample by stage; a multiply-add counts as 2.

    embed: tokenise and first block(s), paid by everyone. bank: build the tape bank, paid when
    the cap is above 0. read_step: read one tape token. trunk[t]: the trunk over a tape of t tokens.
    """

    embed: Count
    bank: Count
    read_step: Count
    trunk: list[Count]

    def useful(self, tape_length: int, cap: int) -> int:
        """Return the FLOPs that a sample with this tape length needs."""
        read = self.bank + tape_length * self.read_step if cap > 0 else 0
        return self.embed + read + self.trunk[tape_length]

    def read_executed(self, *, is_reading: bool) -> int:
        """Return the FLOPs the reader graph runs for each row: all its steps, or none of them."""
        steps = len(self.trunk) - 1
        return self.embed + (self.bank + steps * self.read_step if is_reading else 0)


class Latency(_Record):
    """Median seconds of one execution of a stage on the hardware named in the table.

    `bucket` is the trunk's; the reader has none, so `embed` and `read` always say 0.
    """

    stage: Literal["embed", "read", "trunk"]
    """`embed` is the reader run with every cap at 0."""
    bucket: Count
    batch: Annotated[int, Field(gt=0)]
    p50_s: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _has_a_bucket_in_the_trunk_only(self) -> Self:
        if self.stage != "trunk" and self.bucket != 0:
            raise ValueError(f"bucket of stage {self.stage}; got {self.bucket}; expected 0")
        return self


class LatencyTable(_Record):
    hardware: str
    runtime: str
    num_threads: Annotated[int, Field(gt=0)]
    entries: Annotated[list[Latency], Field(min_length=1)]


class CurvePoint(_Record):
    """Quality and cost with every tape capped at `cap`; the interval is 95 % Wilson."""

    cap: Count
    accuracy: Annotated[float, Field(ge=0, le=1)]
    accuracy_low: Annotated[float, Field(ge=0, le=1)]
    accuracy_high: Annotated[float, Field(ge=0, le=1)]
    mean_tape_length: Annotated[float, Field(ge=0)]
    mean_tape_length_wanted: Annotated[float, Field(ge=0)]
    mean_flops: Annotated[float, Field(ge=0)]


class QualityCurve(_Record):
    """Accuracy against cap on one data split, named and digested."""

    data: str
    split: str
    data_digest: str
    num_samples: Annotated[int, Field(gt=0)]
    points: Annotated[list[CurvePoint], Field(min_length=1)]


class Manifest(_Record):
    """One version of a family, complete."""

    schema_version: Literal[1]
    family: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+$")]
    source: SourceRun
    config: dict[str, object]
    precision: Literal["fp32", "fp16", "int8"]
    labels: Annotated[list[str], Field(min_length=1)]
    preprocessing: Preprocessing | None = None
    """How images become pixels; None for a family of symbols."""
    symbols: Symbols | None = None
    num_tokens: Count
    dim: Count
    tape_capacity: Annotated[int, Field(gt=0)]
    reads_per_step: Annotated[int, Field(gt=0)]
    halting_threshold: float
    bank: BankSpec
    buckets: Annotated[list[Count], Field(min_length=2)]
    max_batch_size: Annotated[int, Field(gt=0)]
    reader: GraphSpec
    trunk: GraphSpec
    """The trunk with a symbolic tape dimension: the embedded engine runs it at bucket sizes only."""
    trunks: Annotated[list[GraphSpec], Field(min_length=2)]
    """One static graph a bucket, in the order of `buckets`."""
    flops: Flops
    latency: LatencyTable
    quality: QualityCurve

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        capacity = self.tape_capacity
        if (self.preprocessing is None) == (self.symbols is None):
            raise ValueError("input; got preprocessing and symbols, or neither; expected one of the two")
        if self.buckets != sorted(set(self.buckets)) or self.buckets[0] != 0 or self.buckets[-1] != capacity:
            raise ValueError(f"buckets; got {self.buckets}; expected increasing from 0 to {capacity}")
        if len(self.trunks) != len(self.buckets):
            raise ValueError(
                f"trunks; got {len(self.trunks)} graphs; expected one for each of {len(self.buckets)} buckets"
            )
        if len(self.flops.trunk) != capacity + 1:
            raise ValueError(f"flops.trunk; got {len(self.flops.trunk)} entries; expected {capacity + 1}")
        strays = sorted({entry.bucket for entry in self.latency.entries} - set(self.buckets))
        if strays:
            raise ValueError(f"latency.entries; got buckets {strays}; expected only those of {self.buckets}")
        return self

    @property
    def input(self) -> InputSpec:
        """Return what a sample is to the reader."""
        if self.symbols is not None:
            return InputSpec("symbols", "int8", (self.symbols.length,))
        size = self.preprocessing
        assert size is not None, "This is a bug."
        return InputSpec("image", "uint8", (size.height, size.width, 3))

    def bucket_for(self, tape_length: int) -> int:
        """Return the smallest bucket that holds a tape of this length."""
        return next(bucket for bucket in self.buckets if bucket >= tape_length)

    def graphs(self) -> list[GraphSpec]:
        return [self.reader, self.trunk, *self.trunks]
