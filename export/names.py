"""What the models of a family are called in the model repository."""

from dataclasses import dataclass
from pathlib import Path

GRAPH, WEIGHTS, MANIFEST, ROUTER, CONFIG, LABELS = (
    "model.onnx",
    "weights.bin",
    "manifest.json",
    "model.py",
    "config.pbtxt",
    "labels.txt",
)


@dataclass(frozen=True, slots=True)
class Names:
    """The models of one version of a family: router, reader, trunk with a symbolic tape, a trunk for each bucket."""

    family: str
    version: str
    buckets: tuple[int, ...]

    @property
    def reader(self) -> str:
        return f"{self.family}_reader"

    @property
    def trunk(self) -> str:
        return f"{self.family}_trunk"

    def static(self, bucket: int) -> str:
        return f"{self.trunk}_t{bucket:02d}"

    @property
    def trunks(self) -> list[str]:
        """The symbolic trunk, then one a bucket."""
        return [self.trunk, *map(self.static, self.buckets)]

    @property
    def graphs(self) -> list[str]:
        return [self.reader, *self.trunks]

    def path(self, model: str, file: str = GRAPH) -> Path:
        """Return where a file of this version lies in the repository."""
        return Path(model, self.version, file)

    def bucket_for(self, tape_length: int) -> int:
        """Return the smallest bucket that holds a tape of this length."""
        return next(bucket for bucket in self.buckets if bucket >= tape_length)
